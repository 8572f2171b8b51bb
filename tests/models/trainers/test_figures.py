"""Means, variances and what the alarms look at, from sums and counts."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.trainers.figures import alarm_figures, point, rounded, sums_of_all, variance


def sums(name, values):
    return {name: (sum(values), len(values)), f"{name}/square": (sum(value * value for value in values), len(values))}


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_the_variance_is_that_of_the_values(values):
    found = sums("x", values)
    assert variance(found, "x") == pytest.approx(statistics.variance(values), abs=1e-6)
    assert variance(found, "x", unbiased=False) == pytest.approx(statistics.pvariance(values), abs=1e-6)


def test_of_one_value_there_is_no_variance():
    assert variance(sums("x", [3.0]), "x") is None


def test_a_point_has_means_and_no_squares():
    found = point({**sums("objective/scores", [1.0, 3.0]), **sums("val/ratio", [1.0, 2.0]), "none": (0.0, 0)})
    assert found == {
        "objective/scores": 2.0,
        "val/ratio": 1.5,
        "val/ratio_var": 0.25,
        "objective/scores_std": pytest.approx(2**0.5),
    }


def test_the_explained_variance_is_1_where_the_values_are_right_and_0_where_they_are_a_constant_off_the_mean():
    returns, scores = [1.0, 2.0, 4.0], sums("objective/scores", [1.0])
    right = point({**scores, **sums("value/return", returns), **sums("value/error", [0.0, 0.0, 0.0])})
    mean = point({**scores, **sums("value/return", returns), **sums("value/error", returns)})
    assert right["val/explained_variance"] == 1.0 and mean["val/explained_variance"] == pytest.approx(0.0)


def test_what_was_not_measured_is_none_for_the_alarms():
    found = alarm_figures({**sums("objective/scores", [1.0, 3.0]), "objective/kl": (4.0, 2)}, "judge")
    assert (found["kl"], found["scores"], found["heldout"], found["entropy"]) == (2.0, 2.0, None, None)
    assert found["scores_error"] == pytest.approx((2.0 / 2) ** 0.5)


def test_one_process_has_the_sums_of_all_and_a_line_the_figures_that_are_there():
    assert sums_of_all({"a": (1.0, 2)}) == {"a": (1.0, 2)}
    assert rounded({"objective/kl": 1, "other": 2}) == {"kl": 1.0}
