"""Advantages from the answers to one prompt compared with each other: a number per answer, the same on each of its tokens.

An answer's score is the sum of its token rewards, which include the KL penalty if `kl_in: reward`, so the baseline
includes it too. Answers without a score are in no group. A group with one scored answer, or with equal scores, gives exactly 0.
All answers of a group must be in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.advantages import Advantages, RewardBatch, whiten

DEVIATION_EPSILON = 1e-4
"""Added to a group's standard deviation, as in TRL; verl has 1e-6, OpenRLHF 1e-9."""


@dataclass(frozen=True)
class GroupFigures:
    """Statistics of each answer's group, fp64; 0 for an answer without a score.

    Attributes:
        counts: (rows,) answers of the group that have a score.
        means: (rows,) mean score.
        deviations: (rows,) sample standard deviation (n - 1); 0 if the group has one answer.
        equal: (rows,) bool: the group has no two different scores.
    """

    counts: torch.Tensor
    means: torch.Tensor
    deviations: torch.Tensor
    equal: torch.Tensor


def group_figures(scores: torch.Tensor, groups: torch.Tensor, known: torch.Tensor) -> GroupFigures:
    """Statistics of groups.

    Args:
        scores: (rows,); values of answers without a score are ignored.
        groups: (rows,) int64: answers of one group share a number.
        known: (rows,) bool: the answer has a score.
    """
    _, members = torch.unique(groups, return_inverse=True)
    count = int(members.max()) + 1 if len(members) else 0
    values = torch.where(known, scores.double(), torch.zeros_like(scores, dtype=torch.float64))
    ones = known.double()
    zeros = values.new_zeros(count)
    counts = zeros.index_add(0, members, ones)
    means = zeros.index_add(0, members, values) / counts.clamp(min=1)
    squares = zeros.index_add(0, members, (values - means[members]).square() * ones)
    deviations = (squares / (counts - 1).clamp(min=1)).sqrt()
    highest = zeros.sub(torch.inf).scatter_reduce(0, members[known], values[known], "amax")
    lowest = zeros.add(torch.inf).scatter_reduce(0, members[known], values[known], "amin")
    equal = ~(highest > lowest)
    return GroupFigures(counts[members], means[members], deviations[members], equal[members])


def leave_one_out(scores: torch.Tensor, groups: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(rows,) fp64: K / (K - 1) (R_i - mean R), which is R_i less the mean of the others (Ahmadian et al. 2024, arXiv 2402.14740, equation 8)."""
    found = group_figures(scores, groups, known)
    factor = found.counts / (found.counts - 1).clamp(min=1)
    return _nowhere_equal(factor * (scores.double() - found.means), found, known)


def group_centred(scores: torch.Tensor, groups: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(rows,) fp64: R_i - mean R (Liu et al. 2025, arXiv 2503.20783, section 3.2)."""
    found = group_figures(scores, groups, known)
    return _nowhere_equal(scores.double() - found.means, found, known)


def group_normalised(scores: torch.Tensor, groups: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(rows,) fp64: (R_i - mean R) / (std R + 1e-4), sample deviation (Shao et al. 2024, arXiv 2402.03300, section 4.1.2)."""
    found = group_figures(scores, groups, known)
    return _nowhere_equal((scores.double() - found.means) / (found.deviations + DEVIATION_EPSILON), found, known)


def rloo_advantages(batch: RewardBatch, options: OnlineOptions) -> Advantages:
    """Leave-one-out advantages; whitened if `whiten_advantages`."""
    return _on_tokens(leave_one_out, batch, options.whiten_advantages)


def grpo_advantages(batch: RewardBatch, options: OnlineOptions) -> Advantages:
    """Normalised within the group; whitened if `whiten_advantages`."""
    return _on_tokens(group_normalised, batch, options.whiten_advantages)


def dr_grpo_advantages(batch: RewardBatch, options: OnlineOptions) -> Advantages:
    """Centred within the group; whitened if `whiten_advantages`."""
    return _on_tokens(group_centred, batch, options.whiten_advantages)


def reinforce_pp_baseline_advantages(batch: RewardBatch, options: OnlineOptions) -> Advantages:
    """Centred within the group, then normalised over all tokens of the update if `whiten_advantages`, which is the default here (arXiv 2501.03262)."""
    return _on_tokens(group_centred, batch, options.whiten_advantages)


Estimate = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _on_tokens(estimate: Estimate, batch: RewardBatch, whitened: bool) -> Advantages:
    mask = batch.mask.bool()
    scores = torch.where(mask, batch.rewards, torch.zeros_like(batch.rewards)).double().sum(1)
    answers = estimate(scores, batch.groups, mask.any(1)).to(batch.rewards.dtype)
    advantages = torch.where(mask, answers[:, None], torch.zeros_like(batch.rewards))
    return Advantages(whiten(advantages, mask) if whitened else advantages, None)


def _nowhere_equal(advantages: torch.Tensor, found: GroupFigures, known: torch.Tensor) -> torch.Tensor:
    """The advantages, exactly 0 for answers without a score and in groups with equal scores, where the rounding of the mean could give other values."""
    return torch.where(known & ~found.equal, advantages, torch.zeros_like(advantages))
