"""Means with intervals."""

from alignflow.models.evaluators.base import mean_interval


def test_a_mean_with_students_interval():
    found = mean_interval([1.0, 2.0, 3.0], 0.95)  # s / sqrt(3) = 0.5774, t(0.975, 2) = 4.3027
    assert (found["mean"], round(found["low"], 3), round(found["high"], 3)) == (2.0, -0.484, 4.484)
    assert mean_interval([], 0.95) == {"mean": None, "low": None, "high": None}
