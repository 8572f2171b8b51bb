"""From token rewards to advantages: pure functions over padded rows, and the estimators that the catalogue names.

Sums over the whole batch are over all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from alignflow.data.configs.online import OnlineOptions, PPOOptions
from alignflow.models.engines import group

Total = Callable[[torch.Tensor], torch.Tensor]
"""Adds a tensor over all processes."""

EPSILON = 1e-8


@dataclass(frozen=True)
class RewardBatch:
    """The scored answers of one update, in one process.

    Attributes:
        rewards: (rows, time) fp32 per token: the KL penalty, and the score on the last token.
        values: (rows, time) fp32: a value model's estimate at the state before each token; None without a value model.
        mask: (rows, time) bool: tokens that count.
        groups: (rows,) int64: answers of one prompt share a number.
    """

    rewards: torch.Tensor
    values: torch.Tensor | None
    mask: torch.Tensor
    groups: torch.Tensor


@dataclass(frozen=True)
class Advantages:
    """What an estimator returns.

    Attributes:
        advantages: (rows, time) fp32, 0 outside of the mask.
        returns: (rows, time) fp32: what the value model learns; None without a value model.
    """

    advantages: torch.Tensor
    returns: torch.Tensor | None


def gae_advantages(batch: RewardBatch, options: PPOOptions) -> Advantages:
    """GAE with `gamma` and `lam`, whitened over all tokens if `whiten_advantages`; returns from the unwhitened ones."""
    assert batch.values is not None
    advantages, returns = gae(batch.rewards, batch.values, batch.mask, options.gamma, options.lam)
    if options.whiten_advantages:
        advantages = whiten(advantages, batch.mask)
    return Advantages(advantages, returns)


def reinforce_pp_advantages(batch: RewardBatch, options: OnlineOptions) -> Advantages:
    """Rewards from each token on, normalised over all tokens of the update if `whiten_advantages` (Hu et al. 2025, arXiv 2501.03262).

    By the population variance, as OpenRLHF does; verl divides by n - 1.
    """
    advantages = discounted_returns(batch.rewards, batch.mask, options.gamma)
    if options.whiten_advantages:
        advantages = whiten(advantages, batch.mask, unbiased=False)
    return Advantages(advantages, None)


def gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    gamma: float,
    lam: float,
    bootstrap: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimation (Schulman et al. 2015, arXiv 1506.02438, equation 16).

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}, backwards in time. Returns are A_t + V_t. Tokens
    outside of the mask are skipped: the token before a gap is followed by the one after it.

    Args:
        rewards: (rows, time), per token.
        values: (rows, time), at the state before each token.
        mask: (rows, time); values outside it are ignored.
        bootstrap: (rows,): V after a row's last token; None: 0.

    Returns:
        Advantages and returns, (rows, time), 0 outside of the mask.
    """
    mask = mask.bool()
    rewards, values = (torch.where(mask, found, torch.zeros_like(found)) for found in (rewards, values))
    advantages = torch.zeros_like(rewards)
    following = rewards.new_zeros(len(rewards))
    following_value = following if bootstrap is None else bootstrap.to(rewards)
    for time in reversed(range(rewards.shape[1])):
        here = mask[:, time]
        delta = rewards[:, time] + gamma * following_value - values[:, time]
        following = torch.where(here, delta + gamma * lam * following, following)
        following_value = torch.where(here, values[:, time], following_value)
        advantages[:, time] = torch.where(here, following, torch.zeros_like(following))
    return advantages, torch.where(mask, advantages + values, torch.zeros_like(values))


def discounted_returns(rewards: torch.Tensor, mask: torch.Tensor, gamma: float) -> torch.Tensor:
    """G_t = r_t + gamma G_{t+1}, (rows, time), 0 outside of the mask: GAE with lam 1 and values 0."""
    return gae(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)[0]


def whiten(
    values: torch.Tensor,
    mask: torch.Tensor,
    shift_mean: bool = True,
    unbiased: bool = True,
    total: Total = group.sum_tensor,
) -> torch.Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over the tokens of the mask in all processes; 0 elsewhere.

    Args:
        values: (rows, time).
        mask: (rows, time); values outside it are ignored.
        shift_mean: False adds the mean back, as is usual for rewards.
        unbiased: Divide the squares by n - 1 (a single token then has variance 0, not infinity); False: by n.
        total: Adds over processes; in fp64.
    """
    mask = mask.bool()
    chosen = values[mask].double()
    count = total(torch.tensor([float(len(chosen))], dtype=torch.float64, device=values.device))
    mean = total(chosen.sum()[None]) / count.clamp(min=1)
    variance = total((chosen - mean).square().sum()[None]) / (count - 1 if unbiased else count).clamp(min=1)
    whitened = (chosen - mean) / torch.sqrt(variance + EPSILON)
    result = torch.zeros_like(values)
    result[mask] = (whitened if shift_mean else whitened + mean).to(values.dtype)
    return result
