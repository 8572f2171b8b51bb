"""Samples for a policy in training: with the model itself, or with an engine in another process that loads its weights.

An engine that has loaded weights is checked before it samples: it and the trainer compute log-probabilities of fixed
texts, which must agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.errors import TrainingError
from alignflow.models.engines import group
from alignflow.models.engines.partitioned import whole
from alignflow.models.generation.base import Generation, Generator, Sampling, make_live_engine, make_live_generator
from alignflow.models.generation.verification import Agreement, compared, forced_logps, probe_rows, too_far
from alignflow.models.policy import Policy


class WeightTaker(Generator, Protocol):
    """An engine in another process, with weights that it is given."""

    version: str

    def take(self, model: Any) -> None:
        """Load the weights of a model in training; the caller checks the result."""


class LiveSampler:
    """A generator whose weights are those of a policy in training.

    Args:
        policy: The policy; its weights are read when answers are sampled.
        path: The checkpoint that it was loaded from.
        config: The engine; None: the policy's own model samples.
        longest: Most tokens of prompt and answer together.
    """

    def __init__(self, policy: Policy, path: Path, config: GeneratorConfig | None, longest: int):
        self._policy = policy
        self._make: Callable[[], WeightTaker] | None = None
        self._own: Generator | None = None
        self._taker: WeightTaker | None = None
        self._stale = True
        self._inside = False
        self._figures: dict[str, float] = {}
        self.tokenizer = policy.tokenizer
        if config is None or config.name == "transformers":
            self._own = make_live_generator(policy.model, policy.tokenizer, policy.runtime)
        else:
            self._make = lambda: make_live_engine(path, policy.runtime, config, longest)

    @property
    def foreign(self) -> bool:
        """Whether the engine is not the trainer's model, so that its log-probabilities differ and must be kept."""
        return self._own is None

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and completion together."""
        return self._engine.context_length

    @property
    def figures(self) -> dict[str, float]:
        """The result of the last check, for the curves: empty if the policy itself samples."""
        return dict(self._figures)

    def sync(self, model: Any) -> None:
        """Record that the policy's weights changed: they are loaded before the next answers are sampled."""
        assert model is self._policy.model
        self._stale = True

    def prepare(self) -> None:
        """Load the policy's current weights if another engine has earlier ones; every process must call it.

        Raises:
            TrainingError: the engine's results differ from the trainer's; says by how much.
            ModelError: the engine does not start, or has ended.
        """
        if not self.foreign or not self._stale:
            return
        if self._taker is None:
            assert self._make is not None
            self._taker = self._make()
        self._taker.take(self._policy.model)
        self._probe(self._taker)
        self._stale = False

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A context to sample in: the weights are the policy's, and a partitioned model (ZeRO 3) is gathered in each process.

        Every process must enter and leave it together; inside, each may sample any number of times. A separate engine
        keeps the weights of the beginning until the end, even if the policy is updated meanwhile.
        """
        if self._inside:
            yield
            return
        self.prepare()
        with contextlib.nullcontext() if self.foreign else whole(self._policy.model):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt, with the weights of the last `prepare`, or the current ones if the policy itself samples."""
        with self.session():
            return self._engine.generate(prompts, sampling, seeds)

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the fp32 log-probabilities of the tokens `options` at the next position."""
        with self.session():
            return self._engine.score_options(prompts, options)

    def close(self) -> None:
        """End the engine; the policy stays."""
        for engine in (self._own, self._taker):
            if engine is not None:
                engine.close()

    @property
    def _engine(self) -> Generator:
        engine = self._own or self._taker
        if engine is None:
            self.prepare()
            engine = self._taker
        assert engine is not None
        return engine

    def _probe(self, engine: WeightTaker) -> None:
        rows = probe_rows(self.tokenizer, engine.context_length)
        with torch.no_grad():
            logps = self._policy.token_statistics(rows).logps.tolist()
        found = forced_logps(engine, [row.prompt_ids for row in rows], [row.completion_ids for row in rows])
        agreement = compared([value for row in found for value in row], logps)
        everyone = [
            Agreement(**each)
            for each in group.gather({name: getattr(agreement, name) for name in ("tokens", "mean", "most", "worst")})
        ]
        worst = max(everyone, key=lambda each: each.most)
        precision = self._policy.runtime.precision
        for each in everyone:
            if allowed := too_far(each, precision):
                raise TrainingError(
                    f"vLLM {engine.version} loaded the policy's weights, and its results differ from the trainer's: log-probabilities of "
                    f"{each.tokens} tokens of fixed texts differ by {each.mean:.3g} on average and {each.most:.3g} at most ({allowed})",
                    where="align.options.generator",
                    do="set it to transformers, and report the problem with the model's config.json",
                )
        self._figures = {
            "sampling/probe_difference": worst.most,
            "sampling/probe_difference_mean": max(each.mean for each in everyone),
        }
