"""The opponent, whose answers are compared with the policy's: the policy, the reference, a mixture, a moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from alignflow.data.run import Runtime
from alignflow.models.engines import group
from alignflow.models.engines.base import Kept
from alignflow.models.engines.partitioned import exchanged, is_partitioned, own_part, own_range, shape_of, whole
from alignflow.models.engines.parts import Parts, Read, TensorSlice
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.generation.mixture_generator import MixtureGenerator
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.losses.base import ema_update
from alignflow.models.policy import Policy, check_same_vocabulary


@dataclass(frozen=True)
class Players:
    """The models for an opponent.

    Attributes:
        policy: The model that is aligned.
        reference: The frozen one; None: the policy with its adapter off.
        options: The method's options.
        runtime: Runtime of all models.
    """

    policy: Policy
    reference: Policy | None
    options: Any
    runtime: Runtime


class Opponent(Protocol):
    """Writes answers. Opponents sample with transformers, even if another engine samples from the policy.

    Attributes:
        states: What a training state must hold of it, by name.
    """

    states: Mapping[str, Kept]

    def session(self) -> contextlib.AbstractContextManager[None]:
        """A context to sample in: partitioned models (ZeRO 3) are gathered. Every process must enter and leave it together; inside,
        each may sample any number of times.
        """

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One answer per prompt, in the order of `prompts`."""

    def follow(self, policy: Policy) -> None:
        """Called after each step of the policy."""


class FixedOpponent:
    """An opponent that only runs a generator, with no state of its own.

    Args:
        generator: Samples.
        models: The models that it runs.
        within: Context in which it runs them.
    """

    states: Mapping[str, Kept] = {}

    def __init__(
        self,
        generator: Any,
        models: Sequence[Any],
        within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self._generator, self._models, self._within = generator, models, within

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A context in which its models are gathered."""
        with contextlib.ExitStack() as stack:
            for model in self._models:
                stack.enter_context(whole(model))
            yield

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """Its answers."""
        with self.session(), self._within():
            found: list[Generation] = self._generator.generate(prompts, sampling, seeds)
        return found

    def follow(self, policy: Policy) -> None:
        """Does nothing."""


class AveragedOpponent:
    """The moving average of the policy's trainable weights, which starts at them: theta' = d theta' + (1 - d) theta after each step.

    It samples with the policy's model: the two swap their weights meanwhile. For a policy with an adapter it is the average of
    the adapter's two factors, which is an adapter too; its product is not the average of their products. It is partitioned like
    the policy (ZeRO 3).

    Args:
        policy: The policy in training.
        decay: d.
        runtime: Its runtime.
    """

    def __init__(self, policy: Policy, decay: float, runtime: Runtime):
        self._policy, self._decay = policy, decay
        self._generator = TransformersGenerator.around(policy.model, policy.tokenizer, runtime)
        self._learning = {name: value for name, value in policy.model.named_parameters() if value.requires_grad}
        self._average = {name: own_part(parameter).clone() for name, parameter in self._learning.items()}
        self._inside = False
        self.states: Mapping[str, Kept] = {"average": self}

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A context in which the policy's model has the averaged weights."""
        if self._inside:
            yield
            return
        with exchanged(list(self._learning.values()), list(self._average.values())), whole(self._policy.model):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """Answers of the averaged model."""
        with self.session():
            return self._generator.generate(prompts, sampling, seeds)

    @torch.no_grad()
    def follow(self, policy: Policy) -> None:
        """Move towards the policy's weights."""
        for name, parameter in self._learning.items():
            average = self._average[name]
            average.copy_(ema_update(average, own_part(parameter), self._decay))

    def parts(self) -> Parts:
        """The averaged weights; those that are not partitioned are sharded evenly."""
        found: Parts = {}
        for name, parameter in self._learning.items():
            values, start = self._average[name], 0
            if is_partitioned(parameter):
                start = own_range(parameter)[0]
            else:
                start, stop = (len(values) * number // group.size() for number in (group.rank(), group.rank() + 1))
                values = values[start:stop]
            if len(values):
                found[name] = TensorSlice(values, start, tuple(shape_of(parameter)))
        return found

    @torch.no_grad()
    def load_parts(self, read: Read) -> None:
        """Load what `parts` returned."""
        for name, parameter in self._learning.items():
            values = self._average[name]
            start = own_range(parameter)[0] if is_partitioned(parameter) else 0
            values.copy_(read(name, start, start + len(values)))

    def description(self) -> dict[str, Any]:
        """Nothing besides the settings of the policy's engine."""
        return {}


def make_opponent(name: str, players: Players) -> Opponent | None:
    """The opponent of a name; None if the opponent's answers are further answers of the policy."""
    make = OPPONENTS[name]
    return None if make is None else make(players)


def _reference(players: Players) -> FixedOpponent:
    generator, within = _reference_generator(players)
    return FixedOpponent(generator, [(players.reference or players.policy).model], within)


def _mixture(players: Players) -> FixedOpponent:
    policy, (reference, within) = players.policy, _reference_generator(players)
    if players.reference is not None:
        check_same_vocabulary(policy, players.reference, "align.options.mixture_coef")
    own = TransformersGenerator.around(policy.model, policy.tokenizer, players.runtime)
    models = [policy.model, *([] if players.reference is None else [players.reference.model])]
    return FixedOpponent(MixtureGenerator(own, reference, players.options.mixture_coef, within), models)


def _ema(players: Players) -> AveragedOpponent:
    return AveragedOpponent(players.policy, players.options.ema_decay, players.runtime)


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
"""Name in a method's row -> function that makes the opponent."""
