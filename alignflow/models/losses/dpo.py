"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, target_probability


def dpo(batch: PairBatch, options: DPOOptions) -> LossOutput:
    """Equation 7: -log sigmoid(z), z = beta (rho(w) - rho(l)), with rho summed over tokens.

    With a target p below 1 (label smoothing: Mitchell 2023, "cDPO"; or the labeller's soft labels) both orders of the
    pair are weighed: -p log sigmoid(z) - (1 - p) log sigmoid(-z). At the reference z is 0 and the loss is ln 2. No gradient
    reaches the reference.

    Args:
        batch: Pairs with reference sums.
        options: beta (1/nats), label_smoothing, use_soft_labels.

    Returns:
        Loss (pairs,), and TRL's metrics: implicit rewards beta * rho.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    margin = rewards[0] - rewards[1]
    target = target_probability(batch.soft_label, options.use_soft_labels, options.label_smoothing)
    loss = -target * logsigmoid(margin) - (1 - target) * logsigmoid(-margin)
    return LossOutput(loss, pair_metrics(batch, *rewards))


def pair_metrics(batch: PairBatch, chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """TRL's names for figures of a pair; an accuracy counts a tie as half."""
    with torch.no_grad():
        margins = chosen_rewards - rejected_rewards
        return {
            "rewards/chosen": chosen_rewards.detach(),
            "rewards/rejected": rejected_rewards.detach(),
            "rewards/margins": margins.detach(),
            "rewards/accuracies": ((margins > 0).float() + (margins >= 0).float()) / 2,
            "logps/chosen": batch.chosen.logps.detach(),
            "logps/rejected": batch.rejected.logps.detach(),
        }
