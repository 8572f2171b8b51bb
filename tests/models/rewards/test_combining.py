"""One score from several sources."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.rewards.combining import combined, normalised_in_groups, weighted_sum

SCORES = st.lists(
    st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 3)), min_size=4, max_size=4
)


def test_a_sum_is_weighted_and_lacks_nothing():
    assert combined([[1.0, 2.0, None], [3.0, None, 1.0]], [2.0, -1.0]) == [-1.0, None, None]
    assert weighted_sum([], []) == 0


def test_a_group_is_normalised_by_itself_and_equal_scores_say_nothing():
    """Group a: mean 2, deviation sqrt(2); b: equal; c: a single score; d: two that differ by rounding."""
    scores = [1.0, 3.0, 5.0, 5.0, None, 9.0, 0.1, 0.1 + 1e-9]
    found = normalised_in_groups(scores, list("aabbbcdd"))
    assert found == [pytest.approx(-(0.5**0.5)), pytest.approx(0.5**0.5), 0.0, 0.0, None, 0.0, 0.0, 0.0]


def test_sources_of_different_size_count_alike():
    """Summed as they are, the large one decides alone: GDPO's point."""
    large, small = [0.0, 1000.0, 0.0, 1000.0], [1.0, 1.0, 0.0, 0.0]
    found = combined([large, small], [1.0, 1.0], groups=["q"] * 4)
    assert found[0] == pytest.approx(0) and found[3] == pytest.approx(0) and found[1] == pytest.approx(-found[2])


@given(SCORES, SCORES, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_neither_scale_nor_origin_of_one_source_matters(one, other, scale, shift):
    groups = ["a", "a", "b", "b"]
    changed = [scale * value + shift for value in one]
    spreads = [abs(one[0] - one[1]), abs(one[2] - one[3])]
    if any(0 < spread < 0.01 for spread in spreads) or any(0 < scale * spread < 0.01 for spread in spreads):
        return  # near what counts as rounding
    before, after = (combined([first, other], [0.7, 1.3], groups) for first in (one, changed))
    assert after == pytest.approx(before, abs=1e-6)


@given(SCORES)
def test_normalised_scores_have_mean_zero_and_deviation_one_or_zero(scores):
    found = normalised_in_groups(scores, ["q"] * 4)
    assert statistics.fmean(found) == pytest.approx(0, abs=1e-6)
    assert statistics.stdev(found) == pytest.approx(1, abs=1e-6) or not any(found)
