"""The protocol of engines that sample and score, token ids in and token ids out, and the functions that load one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from alignflow.data.catalogue import GENERATORS, GeneratorRow, look_up, parse_options
from alignflow.data.configs.base import content_kind, in_key
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.engine_hosts import end_idle_hosts
from alignflow.data.errors import ModelError, RecipeError
from alignflow.data.run import Runtime


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens.

    Attributes:
        max_new_tokens: Longest completion, stop token included.
        temperature: 0 takes the most probable token.
        top_p: Smallest set of tokens with this probability; 1 is off.
        top_k: This many tokens at most; 0 is off.
        logps: Whether to return the log-probability of each drawn token under the distribution that it was drawn from (temperature,
            top_p and top_k applied).
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    logps: bool = False


@dataclass(frozen=True)
class Generation:
    """One completion.

    Attributes:
        ids: Its tokens, without the stop token, so that decoding `ids` gives the answer's text.
        ended: Whether the model stopped by itself; False if it was cut at the limit.
        stop: The stop token that ended it; None if it was cut.
        logps: If `Sampling.logps`: fp32 log-probabilities of `ids`, then that of the stop token if there is one.
    """

    ids: tuple[int, ...]
    ended: bool
    stop: int | None = field(default=None, compare=False)
    logps: tuple[float, ...] | None = field(default=None, compare=False)

    @property
    def tokens(self) -> int:
        """Number of generated tokens, stop token included."""
        return len(self.ids) + self.ended


class Generator(Protocol):
    """A loaded model that samples and scores.

    Attributes:
        tokenizer: The model's tokenizer.
        context_length: Most tokens of prompt and completion together; None if the model has no limit.
    """

    tokenizer: Any
    context_length: int | None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt; a row depends only on its prompt and seed, not on its batch (up to rounding)."""

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the log-probabilities (fp32) of the tokens `options` at the next position."""

    def sync(self, model: Any) -> None:
        """Load the weights of a model in training; does nothing if the generator runs that model itself."""

    def close(self) -> None:
        """Free the model's memory."""


def make_generator(path: Path, runtime: Runtime, config: GeneratorConfig | None = None) -> Generator:
    """Load the model at `path` into the engine that `config` names, transformers if it is None.

    Raises:
        RecipeError: the engine is unknown, one of its options is wrong, or it is a chat endpoint, which gives no tokens.
    """
    config = config or GeneratorConfig(name="transformers")
    row = generator_row(config)
    if row.chat:
        raise RecipeError(
            f"the engine {config.name!r} returns texts, but this step needs token ids",
            where="generator",
            do="set it to transformers or vllm",
        )
    if runtime.device == "cuda" and config.name == "transformers":
        end_idle_hosts()  # vLLM's process of the stage before keeps the GPU's memory for a while
    return row.resolve()(path, runtime, parse_options(row, config.options, "generator.options"))


def generator_row(config: GeneratorConfig) -> GeneratorRow:
    """The catalogue's row of an engine; raises RecipeError for an unknown name."""
    return look_up(GENERATORS, config.name, "generator.name")


def generator_identity(config: GeneratorConfig | None) -> dict[str, Any]:
    """The part of a row's journal id that identifies the engine: empty for transformers, else name, version, and options in the key."""
    if config is None or (config.name == "transformers" and not config.options):
        return {}
    row = generator_row(config)
    options = parse_options(row, config.options, "generator.options")
    return {"generator": [config.name, row.version, _in_key(options)]}


def _in_key(options: BaseModel) -> dict[str, Any]:
    """The options that change results, nested sections included; models named by path enter a row's id by their content (`named_models`)."""
    kind, kept = type(options), dict[str, Any]()
    for name in kind.model_fields:
        if in_key(kind, name) and not content_kind(kind, name):
            value = getattr(options, name)
            kept[name] = _in_key(value) if isinstance(value, BaseModel) else value
    return kept


def make_live_generator(model: Any, tokenizer: Any, runtime: Runtime) -> Generator:
    """The engine of `runtime` around a model that is loaded and in training; call `sync` after its steps."""
    engine: Any = GENERATORS[runtime.generator].resolve()
    return engine.around(model, tokenizer, runtime)


def make_live_engine(path: Path, runtime: Runtime, config: GeneratorConfig, longest: int) -> Any:
    """An engine in a separate process for a policy in training that was loaded from `path`; it has no weights before `take`.

    Args:
        path: Its checkpoint.
        runtime: Device, precision and threads.
        config: The engine, which is not transformers.
        longest: Most tokens of prompt and answer together.

    Raises:
        RecipeError: the engine is unknown, one of its options is wrong, or it cannot load new weights.
    """
    row = generator_row(config)
    if row.chat:
        raise RecipeError(
            f"the engine {config.name!r} cannot load the weights of a policy in training",
            where="align.options.generator",
            do="set it to transformers or vllm",
        )
    engine: Any = row.resolve()
    return engine.for_training(path, runtime, parse_options(row, config.options, "generator.options"), longest)


def check_lengths(prompts: Sequence[Sequence[int]], new_tokens: int, context_length: int | None, do: str) -> None:
    """Refuse a prompt without tokens, and one that does not fit the context together with `new_tokens`; raises ModelError with the advice `do`."""
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ModelError("the prompt has no tokens", where=f"row {index}", do="check the chat template")
        if context_length is not None and len(prompt) + new_tokens > context_length:
            raise ModelError(
                f"{len(prompt)} prompt tokens and {new_tokens} new ones exceed the context of {context_length}",
                where=f"row {index}",
                do=do,
            )


def row_seed(seed: int, identity: str, index: int) -> int:
    """The 64-bit seed of completion `index` of row `identity`: the same in every batch, run and order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{identity}".encode()).digest()[:8], "big")
