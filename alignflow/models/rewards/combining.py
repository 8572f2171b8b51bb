"""One score from the scores of several sources: a weighted sum of raw scores, or of scores that are normalised per source."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

SAME = 1e-6
"""Scores of a group count as equal if their deviation is at most this share of the largest of them, which is rounding."""

Scores = Sequence[float | None]


def weighted_sum(scores: Scores, weights: Sequence[float]) -> float | None:
    """The weighted sum; None if a score is None, because a partial sum is not comparable."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    return sum(weight * score for weight, score in zip(weights, known, strict=True))


def combined(
    columns: Sequence[Scores], weights: Sequence[float], groups: Sequence[Hashable] | None = None
) -> list[float | None]:
    """The score of each answer; None if one of its sources gave none.

    Args:
        columns: Scores by source.
        weights: One per source.
        groups: The prompt of each answer: every source is first normalised within the answers to one prompt. None: raw scores are summed.
    """
    if groups is not None:
        columns = [normalised_in_groups(column, groups) for column in columns]
    return [weighted_sum(scores, weights) for scores in zip(*columns, strict=True)]


def normalised_in_groups(scores: Scores, groups: Sequence[Hashable]) -> list[float | None]:
    """(score - mean) / deviation within each group (GDPO, arXiv 2601.05242: each reward separately, before they are summed).

    The deviation is that of a sample (n - 1). A group of equal scores, or of a single one, gives zeros. None stays
    None and is in no mean.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (score, group) in enumerate(zip(scores, groups, strict=True)):
        if score is not None:
            members[group].append(index)
    found: list[float | None] = [None] * len(scores)
    for indices in members.values():
        for index, value in zip(
            indices, _standardised([float(scores[index] or 0.0) for index in indices]), strict=True
        ):
            found[index] = value
    return found


def _standardised(values: list[float]) -> list[float]:
    if len(values) < 2:
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if deviation <= SAME * max(map(abs, values)):
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]
