"""Whether a training learnt, by its curves: a method that does not learn is a bug until shown otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignflow.data.intervals import wilson

Point = Mapping[str, float | None]
ACCURACY = "rewards/accuracies"
LEAST_POINTS = 4
"""Logged points of a training below which its curves say nothing."""


def not_learnt(curve: Sequence[Point], batch_size: int) -> str:
    """Why a training seems not to have learnt; empty where it did, or where its curves are too short to say.

    Two figures are looked at. The accuracy of the implicit reward on the training rows of the second half, where a loss shows one, must be
    above 0.5 with its whole 95% Wilson interval; rows that come again in a later epoch count again. And the loss must be lower in the last quarter of the points than in the first:
    it is one of different rows, so that a small fall may be chance.

    Args:
        curve: The points in order; those of evaluations have no `loss` and are passed over.
        batch_size: Rows of a step.
    """
    points = [point for point in curve if point.get("loss") is not None]
    if len(points) < LEAST_POINTS:
        return ""
    return "; ".join(filter(None, (_accuracy(points, batch_size), _fall(points))))


def _accuracy(points: Sequence[Point], batch_size: int) -> str:
    """What is wrong with the accuracy of the second half; empty where nothing is, or where it is not measured."""
    half = len(points) // 2
    right, rows = 0.0, 0
    for before, point in zip(points[half - 1 :], points[half:], strict=False):
        accuracy = point.get(ACCURACY)
        if accuracy is not None:
            count = int((point["step"] or 0) - (before["step"] or 0)) * batch_size
            right, rows = right + accuracy * count, rows + count
    low, high = wilson(right, rows, 0.95)
    if low is None or high is None or low > 0.5:
        return ""
    return f"the reward's accuracy on the last {rows} training rows is {right / rows:.3f} ({low:.3f}-{high:.3f}), not shown to be above 0.5"


def _fall(points: Sequence[Point]) -> str:
    """What is wrong with the loss; empty where it fell."""
    quarter = len(points) // 4
    first, last = (_mean(part) for part in (points[:quarter], points[-quarter:]))
    return "" if last < first else f"the loss did not fall: {first:.4g} in the first quarter, {last:.4g} in the last"


def _mean(points: Sequence[Point]) -> float:
    return sum(point["loss"] or 0.0 for point in points) / len(points)
