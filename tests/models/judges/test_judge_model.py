"""A language model as judges use it."""

from __future__ import annotations

import math

import pytest

from alignflow.models.judges.judge_model import Reading


def test_probabilities_are_those_among_the_options_and_the_mass_is_that_among_all():
    reading = Reading((math.log(0.3), math.log(0.1)))
    assert reading.probabilities == pytest.approx((0.75, 0.25))
    assert reading.mass == pytest.approx(0.4)


def test_a_missing_reading_has_neither_probabilities_nor_mass():
    assert Reading(None, "too long").probabilities is None and Reading(None, "too long").mass is None


def test_options_that_are_all_impossible_have_no_probabilities():
    assert Reading((-math.inf, -math.inf)).probabilities is None
