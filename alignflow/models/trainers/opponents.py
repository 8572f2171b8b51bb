"""Who writes the answers that the policy's own are compared with: the policy, the reference, a mixture, a moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.generation.mixture_generator import MixtureGenerator
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.losses.base import ema_update
from alignflow.models.policy import Policy, check_same_vocabulary, load_policy


@dataclass(frozen=True)
class Players:
    """The models that an opponent is made of.

    Attributes:
        policy: The model that is aligned.
        reference: The frozen one; None: the policy with its adapter off.
        path: The checkpoint that the policy started from.
        options: The method's.
        runtime: Where everything runs.
    """

    policy: Policy
    reference: Policy | None
    path: Path
    options: Any
    runtime: Runtime


class Opponent(Protocol):
    """Writes answers. Opponents sample with transformers, whatever engine samples from the policy."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One answer per prompt, in the order of `prompts`."""

    def follow(self, policy: Policy) -> None:
        """Called after each step of the policy."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a state must hold of it."""

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from `tensors`."""


class FixedOpponent:
    """An opponent that is its generator, and follows the policy through it or not at all.

    Args:
        generator: Samples.
        within: Context in which it does.
    """

    def __init__(
        self, generator: Any, within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    ):
        self._generator, self._within = generator, within

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """Its answers."""
        with self._within():
            found: list[Generation] = self._generator.generate(prompts, sampling, seeds)
        return found

    def follow(self, policy: Policy) -> None:
        """Nothing to do."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """None."""
        return {}

    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Nothing to do."""


class AveragedOpponent:
    """The moving average of the policy's weights, which starts at them: theta' = d theta' + (1 - d) theta after each step."""

    def __init__(self, average: Policy, decay: float, runtime: Runtime):
        self._average, self._decay = average, decay
        self._generator = TransformersGenerator.around(average.model, average.tokenizer, runtime)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """Answers of the averaged model."""
        return self._generator.generate(prompts, sampling, seeds)

    @torch.no_grad()
    def follow(self, policy: Policy) -> None:
        """Move towards the policy's weights."""
        new = dict(policy.model.named_parameters())
        for name, parameter in self._average.model.named_parameters():
            parameter.copy_(ema_update(parameter, new[name].detach().to(parameter.dtype), self._decay))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The averaged weights, fp32 on the CPU."""
        return {f"average/{name}": value.detach().cpu() for name, value in self._average.model.named_parameters()}

    @torch.no_grad()
    def take_up(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Set the averaged weights."""
        for name, parameter in self._average.model.named_parameters():
            parameter.copy_(tensors[f"average/{name}"])


def make_opponent(name: str, players: Players) -> Opponent | None:
    """The opponent of a name; None where the policy's own further answers are the opponent's."""
    make = OPPONENTS[name]
    return None if make is None else make(players)


def check_opponent(name: str, adapter: bool) -> None:
    """Raise RecipeError for an opponent that cannot be made for a policy with an adapter."""
    if name == "ema" and adapter:
        raise RecipeError(
            "the moving average of weights is not kept for an adapter",
            where="align.lora",
            do="train all weights, or take nash_md",
        )


def _reference(players: Players) -> FixedOpponent:
    generator, within = _reference_generator(players)
    return FixedOpponent(generator, within)


def _mixture(players: Players) -> FixedOpponent:
    policy, (reference, within) = players.policy, _reference_generator(players)
    if players.reference is not None:
        check_same_vocabulary(policy, players.reference, "align.options.mixture_coef")
    own = TransformersGenerator.around(policy.model, policy.tokenizer, players.runtime)
    return FixedOpponent(MixtureGenerator(own, reference, players.options.mixture_coef, within))


def _ema(players: Players) -> AveragedOpponent:
    return AveragedOpponent(load_policy(players.path, players.runtime), players.options.ema_decay, players.runtime)


def _reference_generator(
    players: Players,
) -> tuple[TransformersGenerator, Callable[[], contextlib.AbstractContextManager[Any]]]:
    """A generator of the frozen model, and the context in which it runs."""
    model = players.reference or players.policy
    generator = TransformersGenerator.around(model.model, model.tokenizer, players.runtime)
    if players.reference is not None:
        return generator, contextlib.nullcontext
    assert players.policy.adapter is not None
    return generator, players.policy.adapter.off


OPPONENTS: Mapping[str, Callable[[Players], Opponent] | None] = {
    "policy": None,
    "reference": _reference,
    "mixture": _mixture,
    "ema": _ema,
}
"""Name in a method's row -> what makes the opponent."""
