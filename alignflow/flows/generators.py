"""Resolves the engine of each role: its own or the recipe's, with `auto` decided. Pure, except that it looks for vLLM's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, SampleConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.configs.rollouts import SamplerOptions
from alignflow.data.configs.server import ServerOptions
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.data.vllm_environment import vllm_python

Config = TypeVar("Config", bound=BaseModel)
Choice = Callable[[GeneratorConfig | None], GeneratorConfig | None]


def with_generators(config: Config, default: GeneratorConfig, device: str) -> Config:
    """The config of a stage with the engine of every role made explicit; None means transformers with its defaults.

    So a role's engine enters only the key of its own stage and is in the manifest, and an `auto` that becomes transformers leaves no trace.

    Args:
        config: Config of a stage.
        default: The recipe's `engine.generator`.
        device: The resolved device: `auto` uses vLLM only on a GPU.

    Raises:
        RecipeError: an engine is set for a judge that runs no language model.
    """

    def choose(own: GeneratorConfig | None) -> GeneratorConfig | None:
        wanted = own or default
        if wanted.name == "auto":
            wanted = GeneratorConfig(name="vllm" if device == "cuda" and vllm_python() else "transformers")
        plain = wanted.name == "transformers" and not wanted.options
        return None if plain else wanted

    return _chosen(config, choose)


def servers_of(config: BaseModel, where: str) -> Iterator[tuple[str, ServerOptions]]:
    """The options of every endpoint in a stage's config, each with its place."""
    for place, inner in binding.configs_in(config, where):
        if isinstance(inner, ServerOptions):
            yield place, inner


def server_options(config: GeneratorConfig | None) -> ServerOptions | None:
    """The options of an endpoint, or None for another engine."""
    if config is None or config.name != "server":
        return None
    options: ServerOptions = catalogue.parse_options(
        catalogue.GENERATORS["server"], config.options, "generator.options"
    )
    return options


def with_keys(runtime: Runtime, config: BaseModel) -> Runtime:
    """The runtime of a stage whose process gets the keys of the endpoints in its config, and no others.

    A key is passed as an environment variable of that process: its name is in the runtime, its value nowhere.
    """
    servers = [options for _, options in servers_of(config, "config")]
    if not servers:
        return runtime
    names = [options.api_key_env for options in servers if options.api_key_env]
    blocks = [options.api_key_block for options in servers if options.api_key_block]
    return runtime.model_copy(
        update={
            "environment": tuple(dict.fromkeys((*runtime.environment, *names))),
            "secret_blocks": tuple(dict.fromkeys(blocks)),
            "proxies": any(options.leaves_the_machine for options in servers),
        }
    )


def _chosen(config: Config, choose: Choice) -> Config:
    changes: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name == "generator":
            changes[name] = _of_role(config, value, choose)
        elif isinstance(value, BaseModel):
            changes[name] = _chosen(value, choose)
        elif isinstance(value, tuple):
            changes[name] = tuple(_chosen(item, choose) if isinstance(item, BaseModel) else item for item in value)
    options = binding.parsed_options(config, "options")
    if options is not None:
        chosen = _chosen(options, choose)
        if chosen != options:
            changes["options"] = {**getattr(config, "options"), **_changed_fields(options, chosen)}  # noqa: B009
    changes = {name: value for name, value in changes.items() if value != getattr(config, name)}
    return config.model_copy(update=changes) if changes else config


def _of_role(config: BaseModel, own: GeneratorConfig | None, choose: Choice) -> GeneratorConfig | None:
    if isinstance(config, SampleConfig | ReviseConfig):
        return choose(own)
    if isinstance(config, SamplerOptions):
        return _takes_up_weights(own, choose)
    if isinstance(config, EvaluateConfig):
        return _answers_for_the_models(choose(own))
    if isinstance(config, JudgeConfig) and ":" not in config.name:
        if catalogue.look_up(catalogue.JUDGES, config.name, "judge.name").generates:
            return choose(own)
        if own is not None:
            raise RecipeError(
                f"the judge {config.name!r} runs no language model", where="judge.generator", do="remove it"
            )
    return own


def _takes_up_weights(own: GeneratorConfig | None, choose: Choice) -> GeneratorConfig | None:
    """The engine that samples for a policy in training. If the recipe's engine is an endpoint, the policy itself samples."""
    if own is not None and _takes_no_weights(own):
        raise RecipeError(
            "an endpoint cannot load the weights of a policy in training, so its answers would not be the policy's",
            where="align.options.generator",
            do="set it to transformers or vllm",
        )
    chosen = choose(own)
    return None if chosen is not None and _takes_no_weights(chosen) else chosen


def _takes_no_weights(config: GeneratorConfig) -> bool:
    """Whether an engine always serves its own model: an endpoint."""
    row = catalogue.GENERATORS.get(config.name)  # auto has no row, and an unknown name is refused when it is resolved
    return row is not None and row.chat


def _answers_for_the_models(chosen: GeneratorConfig | None) -> GeneratorConfig | None:
    """Refuse an engine with its own model: an evaluation compares two models of the run."""
    options = server_options(chosen)
    if options is not None and (options.serve is None or options.serve.path is not None):
        raise RecipeError(
            "the evaluation compares two models of the run, but this endpoint serves its own model",
            where="evaluate.generator",
            do="set it to transformers, or to server with `serve: {}`, which serves one after the other",
        )
    return chosen


def _changed_fields(before: BaseModel, after: BaseModel) -> dict[str, Any]:
    written = after.model_dump(mode="json")
    return {name: written[name] for name in type(after).model_fields if getattr(after, name) != getattr(before, name)}
