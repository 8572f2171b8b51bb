"""Losses of Proximal Policy Optimization (Schulman et al. 2017, arXiv 1707.06347), per token and over any shape.

They return a loss for each token; the trainer applies weights and divides by the denominators of the whole optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from alignflow.data.configs.online import OnlineOptions

LARGEST_LOGRATIO = 80.0
"""Nats; the exponential of 89 overflows fp32."""


@dataclass(frozen=True)
class PolicyBatch:
    """Tokens of sampled answers, all of one shape: (N,) or (rows, time).

    Attributes:
        logps: fp32 log-probabilities by the policy, with gradients.
        old_logps: Log-probabilities by the policy that sampled, at the same temperature.
        advantages: fp32, without gradients.
        mask: bool: tokens that count; other values are ignored.
        rows: (N,) int64: the answer of each token; None if the shape is (rows, time), or if no loss needs it.
    """

    logps: torch.Tensor
    old_logps: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor | None = None


@dataclass(frozen=True)
class TokenLoss:
    """A loss per token, and metrics per token.

    Attributes:
        loss: The shape of the batch, 0 outside of the mask.
        metrics: Name -> the same shape, without gradients, 0 outside of the mask: reported as means over tokens.
    """

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


def clip(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """The clipped surrogate with the options' `cliprange`, `cliprange_high` and `dual_clip`."""
    high = options.cliprange if options.cliprange_high is None else options.cliprange_high
    return clipped_policy_loss(batch, options.cliprange, high, options.dual_clip)


def clipped_policy_loss(batch: PolicyBatch, low: float, high: float, dual_clip: float | None = None) -> TokenLoss:
    """max(-A r, -A clip(r, 1 - low, 1 + high)) with r = exp(logp - old logp) (equation 7, negated).

    With `dual_clip` c the loss of a token with A < 0 is at most -c A (Ye et al. 2020, arXiv 1912.09729).

    Metrics: `clipfrac`: where the clipped side is the larger; `ratio`; `approxkl`: (log r)^2 / 2, TRL's figure;
    `approxkl_k1`: -log r.
    """
    mask = batch.mask.bool()
    logratio = masked_difference(batch.logps, batch.old_logps, mask)
    return clipped_surrogate(logratio, batch.advantages, mask, low, high, dual_clip)


def clipped_surrogate(
    logratio: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    low: float,
    high: float,
    dual_clip: float | None = None,
) -> TokenLoss:
    """`clipped_policy_loss` of any log-ratios; all of one shape."""
    advantages = torch.where(mask, advantages, torch.zeros_like(advantages))
    # If the clip or the dual clip applies, a ratio beyond fp32 would give 0 times infinity in the gradient.
    held = advantages >= 0 if dual_clip is None else torch.ones_like(mask)
    ratio = torch.where(held, logratio.clamp(max=LARGEST_LOGRATIO), logratio).exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high)
    loss = torch.maximum(plain, clipped)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return TokenLoss(torch.where(mask, loss, torch.zeros_like(loss)), ratio_figures(logratio, clipped > plain, mask))


@torch.no_grad()
def ratio_figures(logratio: torch.Tensor, clipped: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The metrics of `clipped_policy_loss`, from log-ratios and where the loss is that of the clip."""
    logratio = logratio.detach()
    ratio = logratio.exp()
    figures = {
        "clipfrac": clipped.to(ratio),
        "ratio": ratio,
        "approxkl": logratio.square() / 2,
        "approxkl_k1": -logratio,
    }
    return {name: torch.where(mask, value, torch.zeros_like(value)) for name, value in figures.items()}


def clipped_value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, cliprange: float
) -> TokenLoss:
    """max((V - R)^2, (clip(V, V_old +- cliprange) - R)^2) / 2 per token; metric `clipfrac`: where the clipped side is larger.

    Args:
        values: Estimates with gradients, (N,) or (rows, time), at the state before each token.
        old_values: Estimates at the time of sampling.
        returns: Unwhitened advantages plus old values.
        mask: bool; values outside it are ignored.
        cliprange: In units of the return.
    """
    mask = mask.bool()
    values, old_values, returns = (
        torch.where(mask, found, torch.zeros_like(found)) for found in (values, old_values, returns)
    )
    near = torch.clamp(values, old_values - cliprange, old_values + cliprange)
    plain, clipped = (values - returns).square(), (near - returns).square()
    return TokenLoss(torch.maximum(plain, clipped) / 2, {"clipfrac": (clipped > plain).to(values).detach()})


def total_loss(  # noqa: PLR0913 (terms and coefficients of one formula)
    policy: torch.Tensor | float = 0.0,
    value: torch.Tensor | float = 0.0,
    entropy: torch.Tensor | float = 0.0,
    nll: torch.Tensor | float = 0.0,
    *,
    vf_coef: float = 0.1,
    entropy_coefficient: float = 0.0,
    ptx_coefficient: float = 0.0,
) -> torch.Tensor | float:
    """L_policy + vf_coef L_value - entropy_coefficient H + ptx_coefficient NLL (equation 9; Ouyang et al. 2022, arXiv 2203.02155, equation 2).

    All four are means over the step's tokens. Policy and value model have optimizers of their own: each takes its own
    terms of the sum.
    """
    return policy + vf_coef * value - entropy_coefficient * entropy + ptx_coefficient * nll


def token_weights(
    mask: torch.Tensor, rows: torch.Tensor, count: int, aggregate: str, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The weight of each token in a sum that is then divided by the tokens (`token`) or by the rows.

    Args:
        mask: (N,) bool: tokens that count.
        rows: (N,) int64: the row of each token.
        count: Number of rows.
        aggregate: `token`, `constant`: 1 each; `sequence`: 1 / (tokens of the row), so that every row has weight 1.

    Returns:
        (N,); see `loss_denominator`.
    """
    weights = mask.to(dtype)
    if aggregate == "sequence":
        tokens = weights.new_zeros(count).index_add(0, rows, weights)
        weights = weights / tokens.clamp(min=1)[rows]
    return weights


def loss_denominator(
    weights: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor, count: int, options: OnlineOptions
) -> float:
    """This process's part of the denominator of the weighted sum over tokens.

    The sum of the weights; with `aggregate: constant` the rows that have tokens, times `response_length` (Liu et al. 2025, arXiv
    2503.20783, section 3.2). A row without tokens under the mask is in no denominator.
    """
    if options.aggregate != "constant":
        return float(weights.double().sum())
    with_tokens = torch.zeros(count, dtype=torch.bool, device=mask.device)
    with_tokens[rows[mask]] = True
    return float(with_tokens.sum()) * options.response_length


def masked_difference(first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """first - second inside the mask, 0 elsewhere, with no gradient and no NaN from the masked values."""
    zero = torch.zeros_like(first)
    return torch.where(mask, first, zero) - torch.where(mask, second, torch.zeros_like(second))


KL_ESTIMATORS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "k1": lambda logratio: logratio,
    "k2": lambda logratio: logratio.square() / 2,
    "k3": lambda logratio: torch.exp(-logratio) - 1 + logratio,
}
"""Estimates of KL(p, q) from log p - log q at samples of p (Schulman 2020, "Approximating KL Divergence"), per token.

k1 is unbiased and has either sign; k2 is biased; k3 is unbiased and never negative.
"""
