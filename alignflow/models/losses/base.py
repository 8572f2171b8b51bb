"""Inputs of offline losses, which are answers with statistics of two models, and their outputs: sums with metrics, never means of means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeVar

import torch

from alignflow.models.sequences import chosen_tokens


class Role(IntEnum):
    """The role of an answer in its group: one of a pair, or one of several."""

    CHOSEN = 0
    REJECTED = 1
    OTHER = 2
    """One of several answers ordered by a score or a label, or a sample of the reference."""


@dataclass(frozen=True)
class OfflineBatch:
    """Answers to prompts, one entry per answer, in any order. Sums are fp32 or wider, in nats.

    Attributes:
        group: (answers,) int64: answers that are compared with each other have the same number.
        role: (answers,) int64: values of `Role`.
        logps: (answers,): sum of the policy's log-probabilities over the answer's tokens, its end included if it has one.
        tokens: (answers,) int64: number of these tokens.
        ended: (answers,) bool: whether the answer ended by itself; one that was cut has no end among its tokens.
        reference_logps: (answers,): the frozen reference's sums, without gradients; None for methods without a reference.
        soft_label: (answers,): the labeller's P(this group's chosen answer is better); NaN if it gave none.
        statistics: Figures per token that the method asked for: name -> (N,), answer after answer. The names are those of
            `token_statistics.STATISTICS`, and `reference_logps`.
        label: (answers,): 1.0 if the answer is wanted, 0.0 if not; None for data without labels.
        score: (answers,): the labeller's score, higher is better, NaN if it gave none; None for data without scores.
        step: Scalars of the whole optimizer step over all processes that a loss needs, without gradients, for example KTO's z0. They
            are computed before the micro-batches, so that no result depends on how a step is split. Also scalars of the whole training set.
        weight: (answers,) at least 0: factor of an answer's loss, the same for both answers of a pair, without gradients; None: 1.
            They are also computed over the whole step. The trainer divides by all rows, so that weights with a mean of 1 give a mean.
        prompt_logps: (answers,): sum of the policy's log-probabilities over the prompt's tokens but the first, if the NLL of an answer
            includes them, and 0 elsewhere; None: only over answers.
    """

    group: torch.Tensor
    role: torch.Tensor
    logps: torch.Tensor
    tokens: torch.Tensor
    ended: torch.Tensor
    reference_logps: torch.Tensor | None
    soft_label: torch.Tensor
    statistics: Mapping[str, torch.Tensor] = field(default_factory=dict)
    label: torch.Tensor | None = None
    score: torch.Tensor | None = None
    step: Mapping[str, torch.Tensor] = field(default_factory=dict)
    weight: torch.Tensor | None = None
    prompt_logps: torch.Tensor | None = None

    def rows(self, places: torch.Tensor) -> OfflineBatch:
        """The answers at `places`, (n,) int64, in that order."""
        own = chosen_tokens(self.tokens, places)
        return OfflineBatch(
            self.group[places],
            self.role[places],
            self.logps[places],
            self.tokens[places],
            self.ended[places],
            None if self.reference_logps is None else self.reference_logps[places],
            self.soft_label[places],
            {name: values[own] for name, values in self.statistics.items()},
            None if self.label is None else self.label[places],
            None if self.score is None else self.score[places],
            self.step,
            None if self.weight is None else self.weight[places],
            None if self.prompt_logps is None else self.prompt_logps[places],
        )

    def logratios(self) -> torch.Tensor:
        """rho, (answers,): log pi(y) - log pi_ref(y), summed over tokens; no gradient reaches the reference."""
        return _logratio(self)

    def lengths(self) -> torch.Tensor:
        """(answers,): numbers of tokens as divisors, at least 1, in the dtype of the log-probabilities."""
        return self.tokens.clamp(min=1).to(at_least_fp32(self.logps).dtype)

    def groups(self) -> tuple[int, torch.Tensor]:
        """How many groups there are, and (answers,) int64 the position of each answer's group among them, by group number."""
        numbers, places = self.group.unique(return_inverse=True)
        return len(numbers), places

    def of(self, role: Role) -> OfflineBatch:
        """The answers of one role, in the order of their groups."""
        places = (self.role == role).nonzero()[:, 0]
        return self.rows(places[self.group[places].argsort(stable=True)])

    def pairs(self) -> PairBatch:
        """One chosen and one rejected answer of each group; raises ValueError if a group has another number of either."""
        chosen, rejected = self.of(Role.CHOSEN), self.of(Role.REJECTED)
        if not torch.equal(chosen.group, rejected.group) or len(chosen.group.unique()) < len(chosen.group):
            raise ValueError("a group of a pairwise loss has exactly one chosen and one rejected answer")
        return PairBatch(chosen, rejected)

    def owners(self) -> torch.Tensor:
        """(N,) int64: the answer of each token."""
        return torch.repeat_interleave(torch.arange(len(self.tokens), device=self.tokens.device), self.tokens)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """(answers,): sums of figures per token (N,) over each answer."""
        return values.new_zeros(len(self.tokens)).index_add(0, self.owners(), values)


@dataclass(frozen=True)
class PairBatch:
    """The view of pairs: entry i of both sides is pair i. Losses read it in the symbols of the papers.

    Attributes:
        chosen: The better answers (w).
        rejected: The worse ones (l).
    """

    chosen: OfflineBatch
    rejected: OfflineBatch

    def logps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """lp(w), lp(l), both (pairs,): the policy's sums, nats."""
        return at_least_fp32(self.chosen.logps), at_least_fp32(self.rejected.logps)

    def mean_logps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """avg lp(w), avg lp(l), both (pairs,): nats per token; 0 for an answer without tokens."""
        lp_w, lp_l = self.logps()
        len_w, len_l = self.lengths()
        return lp_w / len_w, lp_l / len_l

    def logratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """rho(w), rho(l), both (pairs,): log pi(y) - log pi_ref(y), summed over tokens; no gradient reaches the reference."""
        return self.chosen.logratios(), self.rejected.logratios()

    def lengths(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of tokens as divisors, both (pairs,), at least 1."""
        return self.chosen.lengths(), self.rejected.lengths()

    @property
    def soft_label(self) -> torch.Tensor:
        """(pairs,): the labeller's P(chosen is better); NaN if it gave none."""
        return self.chosen.soft_label

    def weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss per pair, (pairs,), times the pairs' weights; exactly 0, without gradient, where the weight is 0."""
        if self.chosen.weight is None:
            return loss
        weight = self.chosen.weight.to(loss.dtype).detach()
        return weight * loss.masked_fill(weight == 0, 0.0)


def pairs_of_tokens(
    policy: tuple[torch.Tensor, torch.Tensor],
    masks: tuple[torch.Tensor, torch.Tensor],
    reference: tuple[torch.Tensor, torch.Tensor] | None = None,
    soft_label: torch.Tensor | None = None,
) -> PairBatch:
    """Pairs from padded log-probabilities per token; values outside the masks are ignored.

    Args:
        policy: The policy's, of the chosen and of the rejected answers, each (pairs, time); the two may differ in time.
        masks: 1 on the tokens of the answers, each with the shape of its log-probabilities.
        reference: The frozen reference's, or None.
        soft_label: (pairs,) P(chosen is better), or None.
    """
    shared = {} if soft_label is None else {"soft_label": soft_label}
    sides = [
        answers_of_tokens(
            policy[role],
            masks[role],
            None if reference is None else reference[role],
            role=torch.full((len(masks[role]),), int(role), device=masks[role].device),
            **shared,
        )
        for role in (Role.CHOSEN, Role.REJECTED)
    ]
    return PairBatch(*sides)


def answers_of_tokens(
    logps: torch.Tensor, mask: torch.Tensor, reference: torch.Tensor | None = None, **columns: Any
) -> OfflineBatch:
    """Answers from padded log-probabilities per token; values outside the mask are ignored.

    Args:
        logps: The policy's, (answers, time).
        mask: 1 on the tokens of the answers, the same shape.
        reference: The frozen reference's, or None.
        columns: Other columns of the batch by name (label, score, group, role, step); `statistics` are added to the
            log-probabilities. By default each answer is a group by itself, with the role OTHER, and ended.
    """
    mask = mask.bool()

    def sums(values: torch.Tensor) -> torch.Tensor:
        return torch.where(mask, at_least_fp32(values), 0.0).sum(1)

    count = len(mask)
    statistics = {"logps": at_least_fp32(logps)[mask]}
    if reference is not None:
        statistics["reference_logps"] = at_least_fp32(reference)[mask]
    found = OfflineBatch(
        torch.arange(count, device=mask.device),
        torch.full((count,), int(Role.OTHER), device=mask.device),
        sums(logps),
        mask.sum(1),
        torch.ones(count, dtype=torch.bool, device=mask.device),
        None if reference is None else sums(reference),
        at_least_fp32(logps.detach().new_full((count,), float("nan"))),
        {**statistics, **columns.pop("statistics", {})},
    )
    return replace(found, **columns)


@dataclass(frozen=True)
class LossOutput:
    """A loss per row, and metrics per row.

    Attributes:
        loss: (rows,) fp32 or wider; the trainer divides its sum by the rows of the whole optimizer step.
        metrics: Name -> (rows,) without gradients; reported as means over rows without NaN (a metric of desirable answers
            has NaN on the others).
        token_loss: (rows,) or None: a second term, summed over the tokens of each row's chosen answer; the trainer divides its
            sum by the chosen answers' tokens of the whole optimizer step, and adds it.
    """

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    token_loss: torch.Tensor | None = None

    def showing(self, metrics: Mapping[str, torch.Tensor]) -> LossOutput:
        """The same with further metrics."""
        return replace(self, metrics={**self.metrics, **{name: values.detach() for name, values in metrics.items()}})


Number = TypeVar("Number", float, torch.Tensor)


def ema_update(previous: Number, new: Number, momentum: float) -> Number:
    """momentum * previous + (1 - momentum) * new: one step of an exponential moving average, over any shape."""
    return momentum * previous + (1 - momentum) * new


def at_least_fp32(values: torch.Tensor) -> torch.Tensor:
    """The values in fp32 if they are in half precision, otherwise unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logratio(answers: OfflineBatch) -> torch.Tensor:
    if answers.reference_logps is None:
        raise ValueError("this loss compares with a reference: pass its log-probabilities")
    return at_least_fp32(answers.logps) - at_least_fp32(answers.reference_logps).detach()


def target_probability(soft_label: torch.Tensor, use_soft_labels: bool, label_smoothing: float) -> torch.Tensor:
    """The target P(chosen is better) of a loss: 1, or the labeller's if it is used and given; then smoothed."""
    target = torch.ones_like(soft_label)
    if use_soft_labels:
        target = torch.where(soft_label.isnan(), target, soft_label)
    return target * (1 - label_smoothing) + (1 - target) * label_smoothing


def pair_metrics(
    batch: PairBatch, chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor
) -> dict[str, torch.Tensor]:
    """TRL's names for figures of a pair, each (pairs,); as in TRL, a pair with a tie is not accurate."""
    with torch.no_grad():
        margins = chosen_rewards - rejected_rewards
        return {
            "rewards/chosen": chosen_rewards.detach(),
            "rewards/rejected": rejected_rewards.detach(),
            "rewards/margins": margins.detach(),
            "rewards/accuracies": (margins > 0).float(),
            "logps/chosen": batch.chosen.logps.detach(),
            "logps/rejected": batch.rejected.logps.detach(),
        }


CAPS = {torch.float32: 30.0, torch.float64: 690.0}
"""Exponents beyond which an exponential continues as its tangent, nats: in fp32, the squares of a gradient of e^30 in each of
1e12 weights have a finite sum; in fp64, where fixed cases are computed, all but overflow is exact."""


def exp_capped(values: torch.Tensor) -> torch.Tensor:
    """e^x, and beyond a cap c its tangent e^c (1 + x - c): the gradient grows no further, and is never 0."""
    cap = CAPS[values.dtype]
    return torch.exp(values.clamp(max=cap)) + math.exp(cap) * torch.relu(values - cap)


def expm1_capped(values: torch.Tensor) -> torch.Tensor:
    """e^x - 1, exact near 0, with the tangent of `exp_capped` beyond the cap."""
    cap = CAPS[values.dtype]
    return torch.expm1(values.clamp(max=cap)) + math.exp(cap) * torch.relu(values - cap)
