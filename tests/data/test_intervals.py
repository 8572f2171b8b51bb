"""Wilson's interval of a share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.intervals import rate, wilson


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


def test_without_trials_there_is_no_rate():
    assert rate(0, 0) == {"rate": None, "low": None, "high": None, "hits": 0, "trials": 0}


def test_the_interval_is_wilsons():
    z, trials, share = 1.959963984540054, 10, 0.3
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (share * (1 - share) / trials + z * z / (4 * trials**2)) ** 0.5
    found = rate(3, 10)
    assert (found["low"], found["high"]) == pytest.approx((centre - half, centre + half), abs=1e-9)


@given(st.integers(1, 500), st.data())
def test_it_holds_the_share_and_mirrors(trials, data):
    hits = data.draw(st.integers(0, trials))
    found, mirrored = rate(hits, trials), rate(trials - hits, trials)
    assert 0 <= found["low"] <= found["rate"] <= found["high"] <= 1
    assert found["low"] == pytest.approx(1 - mirrored["high"], abs=1e-9)
