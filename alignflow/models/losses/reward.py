"""The Bradley-Terry loss of a reward model (Christiano et al. 2017, arXiv 1706.03741; Ouyang et al. 2022, arXiv 2203.02155)."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.training import RewardConfig
from alignflow.models.losses.base import LossOutput, target_probability


def bradley_terry(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor, soft_label: torch.Tensor, config: RewardConfig
) -> LossOutput:
    """-p log sigmoid(r_chosen - r_rejected - margin) - (1 - p) log sigmoid(r_rejected - r_chosen - margin).

    Args:
        chosen: (rows,) fp32 scores of the chosen answers.
        rejected: (rows,) fp32 scores of the rejected ones.
        margin: (rows,) fp32; subtracted where `use_margin` (Touvron et al. 2023, arXiv 2307.09288, equation 2); NaN
            counts as 0.
        soft_label: (rows,) fp32 P(chosen is better); NaN where there is none: p is then 1.
        config: l2_coefficient times the mean square of both scores; center_rewards_coefficient times the square of
            their sum (Eisenstein et al. 2023, arXiv 2312.09244), which fixes the free constant.

    Returns:
        Loss (rows,) and metrics: accuracy (a tie is half), margin, both scores.
    """
    difference = chosen - rejected
    gap = torch.nan_to_num(margin) if config.use_margin else torch.zeros_like(chosen)
    target = target_probability(soft_label, config.use_soft_labels, 0.0)
    loss = -target * logsigmoid(difference - gap) - (1 - target) * logsigmoid(-difference - gap)
    loss = loss + config.l2_coefficient * (chosen.square() + rejected.square()) / 2
    loss = loss + config.center_rewards_coefficient * (chosen + rejected).square()
    with torch.no_grad():
        metrics = {
            "accuracy": ((difference > 0).float() + (difference >= 0).float()) / 2,
            "margin": difference.detach(),
            "score/chosen": chosen.detach(),
            "score/rejected": rejected.detach(),
        }
    return LossOutput(loss, metrics)
