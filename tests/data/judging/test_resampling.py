"""Bootstrap intervals over prompts."""

import numpy
import pytest

from alignflow.data.judging.resampling import interval


def mean_of(values):
    return lambda places: float(numpy.mean(numpy.asarray(values, float)[places]))


def test_the_interval_of_a_mean_is_about_that_of_theory():
    values = [0.0, 1.0] * 200
    found = interval([str(place) for place in range(400)], mean_of(values))
    assert found["value"] == 0.5 and found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_pairs_of_one_prompt_are_drawn_together_so_that_copies_make_no_interval_narrower():
    values = [0.0, 1.0] * 50
    rows = [str(place) for place in range(100)]
    once, copied = interval(rows, mean_of(values)), interval(rows * 9, mean_of(values * 9))
    assert copied == {**once, "count": 900}


def test_the_same_data_give_the_same_interval():
    rows, values = [str(place) for place in range(30)], list(range(30))
    assert interval(rows, mean_of(values)) == interval(rows, mean_of(values))


def test_one_prompt_has_no_interval_and_nothing_has_no_value():
    assert interval(["p", "p"], mean_of([1.0, 0.0])) == {"value": 0.5, "low": None, "high": None, "count": 2}
    assert interval([], mean_of([])) == {"value": None, "low": None, "high": None, "count": 0}


def test_resamples_without_a_value_are_left_out():
    found = interval(["a", "b"], lambda places: 1.0 if 0 in places else None)
    assert (found["low"], found["high"]) == (1.0, 1.0)
