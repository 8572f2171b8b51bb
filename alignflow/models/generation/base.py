"""What samples and scores: token ids in, token ids out. Engines stand in one table and share this protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from alignflow.data.catalogue import suggest
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.data.shared_parts import GENERATORS


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens.

    Attributes:
        max_new_tokens: Longest completion, stop token included.
        temperature: 0 takes the most probable token.
        top_p: Smallest set of tokens with this probability; 1 is off.
        top_k: This many tokens at most; 0 is off.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Generation:
    """One completion.

    Attributes:
        ids: Its tokens, without the stop token, so that decoding `ids` gives the answer's text.
        ended: Whether the model stopped by itself; False where it was cut at the limit.
        stop: The stop token that ended it; None where it was cut.
    """

    ids: tuple[int, ...]
    ended: bool
    stop: int | None = field(default=None, compare=False)

    @property
    def tokens(self) -> int:
        """Number of tokens that the model made, stop token included."""
        return len(self.ids) + self.ended


class Generator(Protocol):
    """A loaded model that samples and scores.

    Attributes:
        tokenizer: The tokenizer beside the model.
        context_length: Most tokens of prompt and completion together; None where the model has no limit.
    """

    tokenizer: Any
    context_length: int | None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt; a row depends on its own prompt and seed, not on its batch (up to rounding)."""

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the log-probabilities (fp32) of the tokens `options` at the next position."""

    def sync(self, model: Any) -> None:
        """Take up the weights of a model in training; one that runs that very model has nothing to do."""

    def close(self) -> None:
        """Give the model's memory back."""


def make_generator(path: Path, runtime: Runtime) -> Generator:
    """Load the model at `path` into the engine that `runtime.generator` names; raises RecipeError for an unknown one."""
    return _engine(runtime)(path, runtime)


def make_live_generator(model: Any, tokenizer: Any, runtime: Runtime) -> Generator:
    """The engine that `runtime.generator` names around a model that is loaded and in training; call `sync` after its steps.

    Raises RecipeError for an engine that cannot do that.
    """
    engine = _engine(runtime)
    if not hasattr(engine, "around"):
        raise RecipeError(
            f"the generator {runtime.generator!r} cannot sample from a model in training",
            where="engine.generator",
            do="set it to transformers",
        )
    return engine.around(model, tokenizer, runtime)


def _engine(runtime: Runtime) -> Any:
    if runtime.generator not in GENERATORS:
        advice = suggest(runtime.generator, GENERATORS)
        raise RecipeError(f"unknown generator {runtime.generator!r}", where="engine.generator", do=advice)
    return GENERATORS[runtime.generator].resolve()


def row_seed(seed: int, identity: str, index: int) -> int:
    """The 64-bit seed of completion `index` of row `identity`: the same in every batch, run and order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{identity}".encode()).digest()[:8], "big")
