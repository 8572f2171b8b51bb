"""What losses work on: named batches of pairs, and what they return: sums with metrics, never means of means."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class PairBatch:
    """Pairs of completions of one prompt, one entry per pair; all (rows,) fp32.

    Attributes:
        chosen_logps: Sum of the policy's log-probabilities over the chosen completion's tokens.
        rejected_logps: The same for the rejected one.
        reference_chosen_logps: The frozen reference's sums; None for methods without a reference.
        reference_rejected_logps: The same for the rejected one.
        chosen_tokens: Number of tokens of the chosen completions.
        rejected_tokens: Number of tokens of the rejected ones.
        soft_label: The labeller's P(chosen is better); NaN where it gave none.
    """

    chosen_logps: torch.Tensor
    rejected_logps: torch.Tensor
    reference_chosen_logps: torch.Tensor | None
    reference_rejected_logps: torch.Tensor | None
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    soft_label: torch.Tensor


@dataclass(frozen=True)
class LossOutput:
    """A loss per row, and figures per row to show.

    Attributes:
        loss: (rows,) fp32; the trainer divides its sum by the rows of the whole optimizer step.
        metrics: Name -> (rows,) fp32 without gradients; shown as means over rows.
    """

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


def target_probability(soft_label: torch.Tensor, use_soft_labels: bool, label_smoothing: float) -> torch.Tensor:
    """P(chosen is better) that a loss aims at: 1, or the labeller's where it is used and given; then smoothed."""
    target = torch.ones_like(soft_label)
    if use_soft_labels:
        target = torch.where(soft_label.isnan(), target, soft_label)
    return target * (1 - label_smoothing) + (1 - target) * label_smoothing
