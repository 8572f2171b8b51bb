"""Intervals of rates and of means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.evaluators.base import mean_interval, wilson


def test_wilsons_interval_of_a_published_example():
    low, high = wilson(81, 263, 0.95)  # Newcombe 1998, table I: 81 of 263
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@given(wins=st.integers(0, 60), ties=st.integers(0, 60), losses=st.integers(0, 60))
def test_an_interval_holds_its_mean_and_mirrors_with_the_models(wins, ties, losses):
    total = wins + ties + losses
    low, high = wilson(wins + ties / 2, total, 0.95)
    if not total:
        assert low is None and high is None
        return
    assert 0 <= low <= (wins + ties / 2) / total <= high <= 1
    other_low, other_high = wilson(losses + ties / 2, total, 0.95)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))


def test_a_mean_with_students_interval():
    found = mean_interval([1.0, 2.0, 3.0], 0.95)  # s / sqrt(3) = 0.5774, t(0.975, 2) = 4.3027
    assert (found["mean"], round(found["low"], 3), round(found["high"], 3)) == (2.0, -0.484, 4.484)
    assert mean_interval([], 0.95) == {"mean": None, "low": None, "high": None}
