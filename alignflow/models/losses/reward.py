"""Losses of reward models: Bradley-Terry for pairs (Christiano et al. 2017, arXiv 1706.03741; Ouyang et al. 2022, arXiv 2203.02155)
and for several answers to a prompt, regression of scores, labels of single answers."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.training import RewardConfig
from alignflow.models.losses.base import LossOutput, at_least_fp32, target_probability
from alignflow.models.losses.lists import differences, make_lists


def bradley_terry(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor, soft_label: torch.Tensor, config: RewardConfig
) -> LossOutput:
    """-p log sigmoid(r_chosen - r_rejected - margin) - (1 - p) log sigmoid(r_rejected - r_chosen - margin).

    Args:
        chosen: (rows,) fp32 scores of the chosen answers.
        rejected: (rows,) fp32 scores of the rejected ones.
        margin: (rows,) fp32; subtracted if `use_margin` (Touvron et al. 2023, arXiv 2307.09288, equation 2); NaN
            counts as 0.
        soft_label: (rows,) fp32 P(chosen is better); NaN if there is none: p is then 1.
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


def reward_ranking(scores: torch.Tensor, labels: torch.Tensor, group: torch.Tensor, config: RewardConfig) -> LossOutput:
    """The mean of -log sigmoid(r_i - r_j) over a prompt's pairs label_i > label_j (Ouyang et al. 2022, arXiv 2203.02155, K-wise).

    All answers to a prompt belong in one batch: according to the paper, pairs of one prompt in several batches overfit.
    Equal labels make no pair; a prompt without a pair has only the L2 term. For two answers it is `bradley_terry` without
    margin and soft labels, L2 and centring included. Its only source is the paper.

    Args:
        scores: (answers,) scores of the model, with gradients.
        labels: (answers,) higher is better; NaN: the answer is dropped.
        group: (answers,) int64: answers to one prompt have the same number.
        config: l2_coefficient times the mean square of a prompt's scores; center_rewards_coefficient times the mean over its
            pairs of (r_i + r_j)^2. Margins and soft labels belong to pairs and are not read.

    Returns:
        Loss (prompts,) in the order of the numbers, and metrics: accuracy (the share of pairs in the right order, a tie is half),
        margin (the pairs' mean difference), and the scores of the best and the worst answer. They are NaN if a prompt
        has no pair.
    """
    lists = make_lists(group, labels)
    grid = lists.grid(at_least_fp32(scores))
    pairs, gaps, sums = lists.better(), differences(grid), grid[:, :, None] + grid[:, None, :]

    def mean(figures: torch.Tensor) -> torch.Tensor:
        return torch.where(pairs, figures, 0.0).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)

    loss = mean(-logsigmoid(gaps)) + config.center_rewards_coefficient * mean(sums.square())
    loss = loss + config.l2_coefficient * grid.square().sum(1) / lists.sizes().clamp(min=1)
    with torch.no_grad():
        metrics = {
            "accuracy": mean(((gaps > 0).to(grid.dtype) + (gaps >= 0).to(grid.dtype)) / 2),
            "margin": mean(gaps),
            "score/chosen": lists.best(grid),
            "score/rejected": lists.worst(grid),
        }
        metrics = {
            name: torch.where(pairs.any(2).any(1), values, torch.nan).detach() for name, values in metrics.items()
        }
    return LossOutput(loss, metrics)


def reward_pointwise(scores: torch.Tensor, targets: torch.Tensor) -> LossOutput:
    """(r - target)^2 for each answer: regression of the labeller's scores.

    Args:
        scores: (answers,) scores of the model, with gradients.
        targets: (answers,) in the units of the model's scores; a NaN makes the loss NaN.

    Returns:
        Loss (answers,), and metrics: error (the absolute one), score.
    """
    scores = at_least_fp32(scores)
    errors = scores - targets.detach().to(scores.dtype)
    return LossOutput(errors.square(), {"error": errors.detach().abs(), "score": scores.detach()})


def reward_binary(scores: torch.Tensor, labels: torch.Tensor) -> LossOutput:
    """-label log sigmoid(r) - (1 - label) log sigmoid(-r) for each answer: the score is the log-odds that the answer is wanted.

    Args:
        scores: (answers,) scores of the model, with gradients.
        labels: (answers,) 1 if the answer is wanted, 0 if not, or the probability; a NaN makes the loss NaN.

    Returns:
        Loss (answers,), and metrics: accuracy (whether the score has the label's sign; a score of 0 is half), score.
    """
    scores = at_least_fp32(scores)
    labels = labels.detach().to(scores.dtype)
    loss = -labels * logsigmoid(scores) - (1 - labels) * logsigmoid(-scores)
    sides = torch.sign(scores.detach()) * torch.sign(labels - 0.5)
    return LossOutput(loss, {"accuracy": (1 + sides) / 2, "score": scores.detach()})
