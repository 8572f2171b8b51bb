"""Which engine each role gets: its own, or that of the recipe, with `auto` decided. Pure but for a look for vLLM's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, SampleConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.errors import RecipeError
from alignflow.data.vllm_environment import vllm_python

Config = TypeVar("Config", bound=BaseModel)
Choice = Callable[[GeneratorConfig | None], GeneratorConfig | None]


def with_generators(config: Config, default: GeneratorConfig, device: str) -> Config:
    """The config of a stage with the engine of every role in it made explicit; None stands for transformers with its defaults.

    So the engine of a role enters the key of its own stage alone, is in the manifest, and `auto` leaves no trace where it is transformers.

    Args:
        config: Config of a stage.
        default: The recipe's `engine.generator`.
        device: The resolved device: `auto` takes vLLM on a GPU alone.

    Raises:
        RecipeError: an engine for a judge that runs no language model.
    """

    def choose(own: GeneratorConfig | None) -> GeneratorConfig | None:
        wanted = own or default
        if wanted.name == "auto":
            wanted = GeneratorConfig(name="vllm" if device == "cuda" and vllm_python() else "transformers")
        plain = wanted.name == "transformers" and not wanted.options
        return None if plain else wanted

    return _chosen(config, choose)


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
    if isinstance(config, SampleConfig | EvaluateConfig | ReviseConfig):
        return choose(own)
    if isinstance(config, JudgeConfig) and ":" not in config.name:
        if catalogue.look_up(catalogue.JUDGES, config.name, "judge.name").generates:
            return choose(own)
        if own is not None:
            raise RecipeError(
                f"the judge {config.name!r} runs no language model", where="judge.generator", do="leave it out"
            )
    return own


def _changed_fields(before: BaseModel, after: BaseModel) -> dict[str, Any]:
    written = after.model_dump(mode="json")
    return {name: written[name] for name in type(after).model_fields if getattr(after, name) != getattr(before, name)}
