"""One update of a method that samples: several epochs of shuffled mini-batches over the answers, with global denominators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.errors import TrainingError
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine
from alignflow.models.in_step import passes_in_step
from alignflow.models.losses.ppo import (
    KL_ESTIMATORS,
    PolicyBatch,
    TokenLoss,
    clipped_value_loss,
    loss_denominator,
    masked_difference,
    token_weights,
    total_loss,
)
from alignflow.models.policy import Policy
from alignflow.models.sequences import chosen_tokens, row_numbers
from alignflow.models.trainers.experience import Experience
from alignflow.models.value_model import ValueModel

SHOWN = {
    "clipfrac": "policy/clipfrac_avg",
    "ratio": "val/ratio",
    "ratio/square": "val/ratio/square",
    "approxkl": "policy/approxkl_avg",
    "kl": "policy/kl_avg",
}
PolicyLoss = Callable[[PolicyBatch, OnlineOptions], TokenLoss]


@dataclass(frozen=True)
class Learner:
    """Takes optimizer steps.

    Attributes:
        policy: The model that is aligned, and its engine.
        critic: The value model with its engine; None for methods without one.
        loss: The policy loss of the catalogue.
        options: The method's options.
        demonstrations: Rows for the ptx term; empty without one.
        seed: Seed of the order of rows.
    """

    policy: tuple[Policy, Engine]
    critic: tuple[ValueModel, Engine] | None
    loss: PolicyLoss
    options: Any
    demonstrations: Sequence[EncodedRow]
    seed: int


@dataclass(frozen=True)
class Rates:
    """Learning rates of one update; `policy` None: only the value model is trained."""

    policy: float | None
    value: float


@dataclass
class Tally:
    """Sums of figures over the steps of an update: name -> [sum, count], the same on all processes; `where` for messages."""

    where: str
    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: dict[str, tuple[float, float]]) -> None:
        """Add sums that are already over all processes."""
        for name, (total, count) in found.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            pair[0] += total
            pair[1] += count


def take_steps(
    learner: Learner, experience: Experience, update: int, rates: Rates, where: str
) -> dict[str, tuple[float, float]]:
    """All steps of an update; returns name -> (sum, count) of their figures, over all processes.

    The policy's steps end when a mini-batch's approximate KL to the sampler exceeds `target_kl`; the value model's continue.

    Raises:
        TrainingError: a loss or a gradient is not finite.
    """
    options, tally, rows = learner.options, Tally(where), len(experience.scored.rollouts.rows)
    stopped, step = rates.policy is None, update * options.num_ppo_epochs * options.num_mini_batches
    for epoch in range(options.num_ppo_epochs):
        for batch in mini_batches(rows, options.num_mini_batches, _seed(learner.seed, update, epoch)):
            if not stopped:
                assert rates.policy is not None
                drift = policy_step(learner, experience, batch, step, rates.policy, tally)
                stopped = options.target_kl is not None and drift > options.target_kl
            if learner.critic is not None:
                value_step(learner, experience, batch, rates.value, tally)
            step += 1
    if rates.policy is not None:
        tally.add({"policy/stopped_early": (float(stopped), 1.0)})
    return {name: (total, count) for name, (total, count) in tally.sums.items()}


def mini_batches(rows: int, count: int, seed: int) -> list[list[int]]:
    """Positions of this process's rows, shuffled and split into `count` parts that differ by at most one row."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return [part.tolist() for part in order.tensor_split(count)]


def _seed(seed: int, update: int, epoch: int) -> int:
    return ((seed * 1_000_003 + update) * 1_009 + epoch) * 65_537 % 2**62 + group.rank()


def policy_step(
    learner: Learner, experience: Experience, batch: list[int], step: int, rate: float, tally: Tally
) -> float:
    """One step of the policy on a mini-batch; returns the approximate KL to the sampler before the step."""
    policy, engine = learner.policy
    options, rows, lengths = learner.options, experience.scored.rollouts.rows, experience.scored.rollouts.lengths
    mini_batch = _MiniBatch(experience, batch, options)
    which = ("logps", "entropy") if options.entropy_coefficient else ("logps",)
    with_kl = options.kl_in == "loss"
    shown = [name for name in SHOWN if with_kl or name != "kl"]
    sums = dict.fromkeys(("loss", "entropy", *shown), 0.0)
    for chosen, places, counts in mini_batch.passes(rows, policy.runtime.micro_batch_tokens):
        statistics = policy.token_statistics([rows[index] for index in chosen], which, temperature=options.temperature)
        weights, mask = (values[places].to(policy.device) for values in (mini_batch.weights, experience.mask))
        old_logps, advantages = (
            values[places].to(policy.device) for values in (experience.scored.logps, experience.advantages)
        )
        owners = row_numbers(lengths[torch.tensor(chosen)]).to(policy.device)
        found = learner.loss(PolicyBatch(statistics.logps, old_logps, advantages, mask, owners), options)
        found = _corrected(found, experience, places)
        if with_kl:
            found = _with_kl(found, statistics.logps, experience, places, mask, options)
        loss = (found.loss * weights).sum()
        entropy = (statistics.values["entropy"] * weights).sum() if options.entropy_coefficient else torch.zeros(())
        share = counts / mini_batch.denominator
        engine.backward(
            total_loss(loss * share, entropy=entropy * share, entropy_coefficient=options.entropy_coefficient)
        )
        if not counts:
            continue
        for name, values in {**found.metrics, "ratio/square": found.metrics["ratio"].square()}.items():
            if name in sums:
                sums[name] += float(values.sum())
        sums["loss"] += float(loss.detach())
        sums["entropy"] += float(entropy.detach())
    if learner.demonstrations:
        tally.add(ptx_backward(learner, step, len(batch)))
    total = group.sum_all(sums)
    _check(total["loss"], engine.step(rate), "policy", tally)
    tokens = max(mini_batch.tokens, 1.0)
    tally.add({"loss/policy_avg": (total["loss"] / mini_batch.denominator, 1.0)})
    tally.add({SHOWN[name]: (total[name], tokens) for name in shown})
    return total["approxkl"] / tokens


def _corrected(found: TokenLoss, experience: Experience, places: torch.Tensor) -> TokenLoss:
    """The policy loss, weighted by the trainer's over the engine's probability of the drawn tokens."""
    if experience.importance is None:
        return found
    return TokenLoss(found.loss * experience.importance.weights[places].to(found.loss.device), found.metrics)


def _with_kl(
    found: TokenLoss,
    logps: torch.Tensor,
    experience: Experience,
    places: torch.Tensor,
    mask: torch.Tensor,
    options: OnlineOptions,
) -> TokenLoss:
    """The loss and the KL penalty to the reference per token, whose gradient runs through this step's log-probabilities."""
    ref_logps = experience.scored.ref_logps[places].to(logps.device)
    kl = KL_ESTIMATORS[options.kl_estimator](masked_difference(logps, ref_logps, mask))
    kl = torch.where(mask, kl, torch.zeros_like(kl))
    return TokenLoss(found.loss + experience.kl_coef * kl, {**found.metrics, "kl": kl.detach()})


def value_step(learner: Learner, experience: Experience, batch: list[int], rate: float, tally: Tally) -> None:
    """One step of the value model on a mini-batch."""
    assert learner.critic is not None and experience.scored.values is not None and experience.returns is not None
    critic, engine = learner.critic
    options, rows = learner.options, experience.scored.rollouts.rows
    mini_batch = _MiniBatch(experience, batch, options)
    sums = {"loss": 0.0, "clipfrac": 0.0}
    for chosen, places, counts in mini_batch.passes(rows, critic.runtime.micro_batch_tokens):
        values = critic.values_packed([rows[index] for index in chosen])
        old_values, returns, mask, weights = (
            found[places].to(critic.device)
            for found in (experience.scored.values, experience.returns, experience.mask, mini_batch.weights)
        )
        found = clipped_value_loss(values, old_values, returns, mask, options.cliprange_value)
        loss = (found.loss * weights).sum()
        engine.backward(total_loss(value=loss * (counts / mini_batch.denominator), vf_coef=options.vf_coef))
        if not counts:
            continue
        sums["loss"] += float(loss.detach())
        sums["clipfrac"] += float(found.metrics["clipfrac"].sum())
    total = group.sum_all(sums)
    _check(total["loss"], engine.step(rate), "value", tally)
    tally.add(
        {
            "loss/value_avg": (total["loss"] / mini_batch.denominator, 1.0),
            "val/clipfrac_avg": (total["clipfrac"], max(mini_batch.tokens, 1.0)),
        }
    )


def ptx_backward(learner: Learner, step: int, rows: int) -> dict[str, tuple[float, float]]:
    """Add the gradients of the ptx term: NLL per assistant token of this step's demonstrations, over all processes.

    The demonstrations repeat in one shuffled order; each process takes the next ones of its shard.
    """
    (policy, engine), options, known = learner.policy, learner.options, learner.demonstrations
    count = options.ptx_batch_size or rows
    first = step * count * group.size() + group.rank() * count
    chosen = [known[place % len(known)] for place in range(first, first + count)]
    tokens = group.sum_all({"tokens": float(sum(row.supervised for row in chosen))})["tokens"]
    nll = 0.0
    for batch, counts in passes_in_step([len(row) for row in chosen], policy.runtime.micro_batch_tokens):
        loss = -policy.token_statistics([chosen[index] for index in batch], summed=True).logps.sum()
        engine.backward(total_loss(nll=loss * (counts / tokens), ptx_coefficient=options.ptx_coefficient))
        nll += float(loss.detach()) * counts
    return {"loss/ptx_avg": (group.sum_all({"nll": nll})["nll"], tokens)}


class _MiniBatch:
    """A mini-batch: the weights of its tokens, and the denominator of sums over them, over all processes."""

    def __init__(self, experience: Experience, batch: list[int], options: OnlineOptions):
        self._batch, self._lengths = batch, experience.scored.rollouts.lengths
        owners = row_numbers(self._lengths)
        inside = torch.zeros(len(self._lengths), dtype=torch.bool)
        inside[batch] = True
        counted = experience.mask & inside[owners]
        self.weights = token_weights(counted, owners, len(self._lengths), options.aggregate)
        weight = loss_denominator(self.weights, counted, owners, len(self._lengths), options)
        found = group.sum_all({"weight": weight, "tokens": float(counted.sum())})
        self.denominator, self.tokens = max(found["weight"], 1.0), found["tokens"]

    def passes(self, rows: list[EncodedRow], tokens: int) -> list[tuple[list[int], torch.Tensor, bool]]:
        """Rows of each forward pass, the places of their tokens in the flat shape, and whether it counts."""
        found = []
        for places, counts in passes_in_step([len(rows[index]) for index in self._batch], tokens):
            chosen = [self._batch[place] for place in places]
            found.append((chosen, chosen_tokens(self._lengths, torch.tensor(chosen)), counts))
        return found


def _check(loss: float, norm: float, what: str, tally: Tally) -> None:
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise TrainingError(
            f"the {what} loss is {loss} and its gradient's norm {norm}",
            where=tally.where,
            do="set a smaller learning_rate or value_learning_rate, or score_clip; the last state is kept",
        )
    tally.add({f"{what}/grad_norm": (norm, 1.0)})
