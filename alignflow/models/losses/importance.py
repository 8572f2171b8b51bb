"""Weights that correct for answers from another engine: the trainer's probability over the engine's, within bounds.

Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training" (truncated importance sampling); the modes are
those of TRL's GRPOConfig.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from alignflow.data.configs.rollouts import ImportanceOptions


@dataclass(frozen=True)
class Importance:
    """Comparison with an engine's log-probabilities, per token (N,).

    Attributes:
        differences: |trainer's minus engine's log-probability|, nats; 0 outside of the mask.
        ratios: Trainer's over engine's probability, of the token or of its whole answer, before any bound; 1 outside of the mask.
        weights: Factors of the policy loss; all 1 if the correction is off.
        outside: bool: the ratio is beyond a bound.
    """

    differences: torch.Tensor
    ratios: torch.Tensor
    weights: torch.Tensor
    outside: torch.Tensor


def importance(
    logps: torch.Tensor,
    behaviour_logps: torch.Tensor,
    rows: torch.Tensor,
    mask: torch.Tensor,
    options: ImportanceOptions,
) -> Importance:
    """The ratios exp(logps - behaviour_logps), and the weights by `importance_sampling_mode`.

    `token_*`: the ratio of each token. `sequence_*`: that of the answer, the exponential of the sum. `*_truncate`: clamped to the bounds.
    `*_mask`: 0 if the ratio is outside the bounds.

    Args:
        logps: (N,) fp32, by the policy that sampled, as training computes them.
        behaviour_logps: (N,) fp32, as the engine drew the tokens.
        rows: (N,) int64: the answer of each token.
        mask: (N,) bool: tokens that count.
    """
    zero = torch.zeros_like(logps)
    logratios = torch.where(mask, logps - behaviour_logps, zero)
    level, action = options.importance_sampling_mode.split("_")
    answered = logratios
    if level == "sequence":
        count = int(rows.max()) + 1 if len(rows) else 0
        answered = logratios.new_zeros(count).index_add(0, rows, logratios)[rows]
    ratios = torch.where(mask, answered.exp(), torch.ones_like(zero))
    low, high = options.importance_sampling_clip_min or 0.0, options.importance_sampling_clip_max
    outside = (ratios < low) | (ratios > high)
    weights = ratios.clamp(low, high) if action == "truncate" else torch.where(outside, zero, ratios)
    if not options.importance_sampling_correction:
        weights, outside = torch.ones_like(zero), torch.zeros_like(outside)
    return Importance(logratios.abs(), ratios, weights, outside & mask)
