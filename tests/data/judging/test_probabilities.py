"""Calibration of probabilities."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.judging.probabilities import brier, calibration_figures, ece, entropy, log_loss


def arrays(pairs):
    return tuple(numpy.asarray(values, float) for values in zip(*pairs, strict=True))


@pytest.mark.parametrize(("probability", "bits"), [(0.5, 1.0), (0.0, 0.0), (1.0, 0.0), (0.25, 0.8112781244591328)])
def test_the_entropy_of_a_label_in_bits(probability, bits):
    assert entropy(probability) == pytest.approx(bits)


@given(st.lists(st.sampled_from([11, 12, 14, 17, 19]), min_size=1, max_size=5, unique=True))
def test_a_judge_whose_probabilities_come_true_has_no_calibration_error(twentieths):
    pairs = [(share / 20, float(place < share)) for share in twentieths for place in range(20)]
    assert ece(*arrays(pairs)) == pytest.approx(0.0, abs=1e-12)


def test_a_sure_judge_that_guesses_has_an_error_of_one_half():
    assert ece(*arrays([(1.0, 1.0), (1.0, 0.0)])) == 0.5


def test_one_half_is_half_right():
    assert ece(*arrays([(0.5, 1.0), (0.5, 0.0), (0.5, 0.0)])) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30))
def test_swapping_sides_changes_no_figure(pairs):
    chance, gold = arrays(pairs)
    assert brier(chance, gold) == pytest.approx(brier(1 - chance, 1 - gold))
    assert log_loss(chance, gold) == pytest.approx(log_loss(1 - chance, 1 - gold), rel=1e-6)


def test_a_judge_that_always_says_one_half_has_the_scores_of_a_coin():
    chance, gold = arrays([(0.5, 1.0), (0.5, 0.0)])
    assert brier(chance, gold) == 0.25 and log_loss(chance, gold) == pytest.approx(math.log(2))


def test_a_sure_and_wrong_label_costs_much_and_not_infinitely_much():
    assert log_loss(*arrays([(0.0, 1.0)])) == pytest.approx(-math.log(1e-6))


def test_the_figures_say_what_chance_alone_gives_with_so_few_pairs():
    rows = [str(place) for place in range(20)]
    found = calibration_figures([0.7] * 20, [1.0] * 14 + [0.0] * 6, rows)
    assert found["ece"]["value"] == pytest.approx(0.0) and found["ece_if_calibrated"] > 0.05
    assert [point["trials"] for point in found["curve"]] == [20] and found["curve"][0]["rate"] == pytest.approx(0.7)


def test_without_pairs_there_are_no_figures():
    assert calibration_figures([], [], []) is None
