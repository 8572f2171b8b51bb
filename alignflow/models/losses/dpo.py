"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, target_probability


def dpo(batch: PairBatch, options: DPOOptions) -> LossOutput:
    """Equation 7: -log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)), log-ratios summed over tokens.

    With a target p below 1 (label smoothing: Mitchell 2023, "cDPO"; or the labeller's soft labels) both orders of the
    pair are weighed: -p log sigmoid(x) - (1 - p) log sigmoid(-x). At the reference x is 0 and the loss is ln 2.

    Args:
        batch: Pairs with reference sums.
        options: beta (1/nats), label_smoothing, use_soft_labels.

    Returns:
        Loss (rows,), and TRL's metrics: implicit rewards beta * log-ratio.
    """
    assert batch.reference_chosen_logps is not None and batch.reference_rejected_logps is not None
    beta = options.beta
    chosen_rewards = beta * (batch.chosen_logps - batch.reference_chosen_logps)
    rejected_rewards = beta * (batch.rejected_logps - batch.reference_rejected_logps)
    margin = chosen_rewards - rejected_rewards
    target = target_probability(batch.soft_label, options.use_soft_labels, options.label_smoothing)
    loss = -target * logsigmoid(margin) - (1 - target) * logsigmoid(-margin)
    return LossOutput(loss, pair_metrics(batch, chosen_rewards, rejected_rewards))


def pair_metrics(batch: PairBatch, chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """TRL's names for figures of a pair; an accuracy counts a tie as half."""
    with torch.no_grad():
        margins = chosen_rewards - rejected_rewards
        return {
            "rewards/chosen": chosen_rewards.detach(),
            "rewards/rejected": rejected_rewards.detach(),
            "rewards/margins": margins.detach(),
            "rewards/accuracies": ((margins > 0).float() + (margins >= 0).float()) / 2,
            "logps/chosen": batch.chosen_logps.detach(),
            "logps/rejected": batch.rejected_logps.detach(),
        }
