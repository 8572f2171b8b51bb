"""Intervals by resampling prompts, with a fixed seed: the same data gives the same interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
Positions = NDArray[numpy.intp]


def interval(
    rows: Sequence[str],
    statistic: Callable[[Positions], float | None],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """A statistic of items, with its percentile bootstrap interval: `value`, `low`, `high`, `count`.

    Items of one row (a prompt) are drawn together, since they are not independent. Resamples in which the statistic cannot be computed are
    left out; without any, or with one row, there is no interval.

    Args:
        rows: The row of each item.
        statistic: A figure from the positions of items, which may repeat; None where it cannot be computed.
        confidence: Level of the interval.
        resamples: How many samples of rows are drawn.
    """
    count = len(rows)
    value = statistic(numpy.arange(count)) if count else None
    members = _members(rows)
    found = []
    if value is not None and len(members) > 1:
        drawing = numpy.random.default_rng(SEED)
        for _ in range(resamples):
            drawn = drawing.integers(len(members), size=len(members))
            if (figure := statistic(numpy.concatenate([members[group] for group in drawn]))) is not None:
                found.append(figure)
    low, high = numpy.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]) if found else (None, None)
    return {
        "value": None if value is None else float(value),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "count": count,
    }


def _members(rows: Sequence[str]) -> list[Positions]:
    """The positions of the items of each row."""
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(row, []).append(place)
    return [numpy.asarray(places) for places in found.values()]
