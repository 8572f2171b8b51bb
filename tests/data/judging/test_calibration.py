"""Temperature and position bias on human labels."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.judging.calibration import Calibration, fit_calibration, fits, fitted_calibration
from alignflow.data.judging.outcomes import Outcome
from tests.data.judging.outcomes_support import outcome


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def judged(count, slope, bias, seed=0):
    """A judge that sees log-odds of the truth and says them `1 / slope` times as sure, with a bias to the first seat."""
    drawing = random.Random(seed)
    found = []
    for place in range(count):
        truth = drawing.gauss(0, 1.5)
        gold = float(drawing.random() < sigmoid(truth))
        given, swapped = sigmoid(truth / slope + bias), sigmoid(truth / slope - bias)
        found.append(Outcome(str(place), (given + swapped) / 2, (given, swapped), gold=gold))
    return found


def test_what_was_put_in_is_found():
    found = fit_calibration(judged(3000, 0.4, 1.2), pointwise=False)
    assert found.slope == pytest.approx(0.4, abs=0.06) and found.bias == pytest.approx(1.2, abs=0.25)


def test_a_judge_without_seats_has_no_bias():
    assert fit_calibration(judged(300, 0.4, 0.0), pointwise=True).bias == 0.0


def test_labels_that_the_seat_swallowed_come_back():
    """With a bias of 4 nearly every preference flips; without it, the orders agree."""
    found = fitted_calibration(judged(600, 1.0, 4.0), pointwise=False)
    assert found["used"] and found["before"]["flips"] > 0.9 * found["measured_on"]
    assert (
        found["after"]["flips"] < 0.2 * found["measured_on"]
        and found["after"]["decided_right"] > 0.6 * found["after"]["decided"]
    )
    assert found["points"]["low"] > 0 and found["changed"] > 200


def test_a_sure_judge_becomes_calibrated_on_labels_that_it_was_not_fitted_on():
    found = fitted_calibration(judged(800, 0.2, 0.0), pointwise=False)
    assert found["used"] and found["after"]["ece"]["value"] < found["before"]["ece"]["value"]
    assert found["gain"]["low"] > 0 and "it helps" in found["why"]


def test_a_calibrated_judge_is_left_alone_and_that_is_said():
    found = fitted_calibration(judged(400, 1.0, 0.0), pointwise=False)
    assert not found["used"] and "does not help" in found["why"] and found["slope"] is not None


def test_a_judge_that_knows_nothing_is_not_made_to_know():
    drawing = random.Random(1)
    guesses = [outcome(float(drawing.random() < 0.5), 0.99, 0.02, row=str(place)) for place in range(400)]
    found = fitted_calibration(guesses, pointwise=False)
    assert found["after"]["log_loss"]["value"] >= math.log(2) - 0.02
    assert found["after"]["decided_right"] <= 0.65 * max(found["after"]["decided"], 1)


def test_too_few_labels_are_refused_with_their_number():
    found = fitted_calibration(judged(60, 0.4, 1.0), pointwise=False)
    assert not found["used"] and found["slope"] is None and "too few: at least 50 and 50" in found["why"]


def test_gold_ties_and_pairs_without_a_label_are_not_fitted_on():
    more = [
        Outcome("t", 0.5, (0.5, 0.5), gold=0.5),
        Outcome("n", None, gold=1.0),
        Outcome("o", 0.7, (0.7, None), gold=1.0),
    ]
    counts = [fitted_calibration(judged(60, 0.4, 1.0) + extra, False)["fitted_on"] for extra in ([], more)]
    assert counts[0] == counts[1]


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 5), st.floats(-5, 5))
def test_a_calibrated_label_of_a_swapped_pair_is_its_mirror_image(given_order, swapped, slope, bias):
    fit, one = Calibration(slope, bias), outcome(1.0, given_order, swapped)
    assert fit.of(one.swapped()).probability == pytest.approx(1 - fit.of(one).probability, abs=1e-9)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_slope_one_without_bias_changes_nothing_and_slope_zero_knows_nothing(one, other):
    pair = outcome(1.0, one, other)
    assert Calibration(1.0, 0.0).of(pair).probability == pytest.approx(pair.probability, abs=1e-6)
    assert Calibration(0.0, 3.0).of(pair).choice == 0.5


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_prompt_is_always_on_the_same_side(number):
    assert fits(str(number), 0.5) == fits(str(number), 0.5) and fits(str(number), 1.0) and not fits(str(number), 0.0)
