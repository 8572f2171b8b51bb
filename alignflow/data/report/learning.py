"""Whether a training learnt, by its curves: a method that does not learn is a bug until shown otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignflow.data.intervals import wilson

Point = Mapping[str, float | None]
ACCURACY = "rewards/accuracies"
GOOD, BAD = "rewards/chosen", "rewards/rejected"
LEAST_POINTS = 4
"""Logged points of a training below which its curves say nothing."""


def not_learnt(curve: Sequence[Point], batch_size: int) -> str:
    """Why a training seems not to have learnt; empty where it did, or where its curves are too short to say.

    The accuracy of the implicit reward on the training rows of the second half, where a loss shows one, must be above 0.5 with its whole
    95% Wilson interval; rows that come again in a later epoch count again. The loss must be lower in the last quarter of the points than
    in the first: it is one of different rows, so that a small fall may be chance. Where single answers have labels there is no accuracy,
    and the loss depends on how many of a step's answers are good: there the rewards of good answers must lie above those of bad ones in
    the second half.

    Args:
        curve: The points in order; those of evaluations have no `loss` and are passed over.
        batch_size: Rows of a step.
    """
    points = [point for point in curve if point.get("loss") is not None]
    if len(points) < LEAST_POINTS:
        return ""
    if distances := _distances(points):
        return _parted(distances)
    return "; ".join(filter(None, (_accuracy(points, batch_size), _fall(points))))


def _distances(points: Sequence[Point]) -> list[float]:
    """Rewards of good answers over those of bad ones, where both are measured and no accuracy is."""
    found = []
    for point in points:
        good, bad = point.get(GOOD), point.get(BAD)
        if point.get(ACCURACY) is None and good is not None and bad is not None:
            found.append(good - bad)
    return found if len(found) >= LEAST_POINTS else []


def _parted(distances: Sequence[float]) -> str:
    """What is wrong with the distances of the second half; empty where they are above 0 on average. At the start they are 0."""
    half = distances[len(distances) // 2 :]
    mean = sum(half) / len(half)
    return "" if mean > 0 else f"good answers' rewards are {mean:.4g} above those of bad ones in the second half"


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
