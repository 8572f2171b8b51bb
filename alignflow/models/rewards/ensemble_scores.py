"""Combines the scores of several reward models into one score per answer (Coste et al. 2023, arXiv 2310.02743). Pure functions.

Raw scores are combined. The authors' code (github.com/tlc4418/llm_optimization) neither centres nor scales the members' scores
before it combines them either. A pairwise loss leaves a constant in each member's scores free. To the mean the constants are only
one number that is the same for all answers; but they change the minimum and the variance. The training can fix
them: `reward.l2_coefficient` and `reward.center_rewards_coefficient` (Eisenstein et al. 2023, arXiv 2312.09244).
"""

from __future__ import annotations

import torch

from alignflow.data.configs.training import Aggregate


def aggregate_scores(scores: torch.Tensor, aggregate: Aggregate, uncertainty_weight: float = 0.0) -> torch.Tensor:
    """One score per answer.

    mean: `(1/k) sum_i r_i`. min: `min_i r_i`, worst-case optimisation. uncertainty: `mean - lambda * variance`, uncertainty-weighted
    optimisation, where the variance over the members divides by k. The authors' PPO code divides by k - 1 and their best-of-n code by k;
    their weights must be multiplied by `k / (k - 1)` here.

    Args:
        scores: (members, answers), any float type; computed in fp64.
        aggregate: mean, min or uncertainty.
        uncertainty_weight: lambda, in 1 / units of score.

    Returns:
        (answers,) fp64; NaN if any member's score is not finite: the others' scores are not the ensemble's.

    Raises:
        ValueError: another name, or no members.
    """
    scores = _checked(scores)
    if aggregate == "mean":
        found = scores.mean(0)
    elif aggregate == "min":
        found = scores.amin(0)
    elif aggregate == "uncertainty":
        found = scores.mean(0) - uncertainty_weight * scores.var(0, correction=0)
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}")
    return _where_all_are_finite(scores, found)


def disagreement(scores: torch.Tensor) -> torch.Tensor:
    """(answers,) fp64: the standard deviation over the members, dividing by their number; NaN if a score is not finite.

    Args:
        scores: (members, answers).

    Raises:
        ValueError: no members.
    """
    scores = _checked(scores)
    return _where_all_are_finite(scores, scores.std(0, correction=0))


def _checked(scores: torch.Tensor) -> torch.Tensor:
    if scores.dim() != 2 or not len(scores):
        raise ValueError(f"scores have the shape {tuple(scores.shape)}, not (members, answers)")
    return scores.double()


def _where_all_are_finite(scores: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    return torch.where(scores.isfinite().all(0), found, torch.nan)
