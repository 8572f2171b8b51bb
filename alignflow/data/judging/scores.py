"""Scores of a judge against scores of people: rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
from scipy.stats import kendalltau, spearmanr

from alignflow.data.judging.resampling import Positions, interval

RESAMPLES = 300


def score_agreement(
    gold: Sequence[tuple[str, Any, str, float]], scores: Sequence[float | None]
) -> dict[str, Any] | None:
    """Spearman's and Kendall's rank correlation over all answers that have both scores, with bootstrap intervals over prompts.

    Args:
        gold: Row (prompt), prompt, answer and score by people.
        scores: By the judge; None where it gave none.

    Returns:
        `spearman`, `kendall` (tau-b, which allows ties), `answers` and `unscored`; None without gold scores. A correlation is None where
        one side gave all answers the same score.
    """
    if not gold:
        return None
    pairs = [(row[0], row[3], score) for row, score in zip(gold, scores, strict=True) if score is not None]
    rows = [row for row, _, _ in pairs]
    people, judge = (numpy.asarray([pair[side] for pair in pairs], float) for side in (1, 2))

    def by(correlation: Any) -> Any:
        def value(places: Positions) -> float | None:
            one, other = people[places], judge[places]
            if len(places) < 2 or one.min() == one.max() or other.min() == other.max():
                return None
            found = float(correlation(one, other).statistic)
            return found if math.isfinite(found) else None

        return interval(rows, value, resamples=RESAMPLES)

    return {
        "answers": len(gold),
        "unscored": len(gold) - len(pairs),
        "spearman": by(spearmanr),
        "kendall": by(kendalltau),
    }
