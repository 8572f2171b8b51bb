"""Figures of labelling."""

import pytest

from alignflow.models.judges.base import Verdict
from alignflow.models.judges.label_statistics import entropy, label_statistics, option_mass, unanswered


@pytest.mark.parametrize(("probability", "bits"), [(0.5, 1.0), (0.0, 0.0), (1.0, 0.0), (0.25, 0.8112781244591328)])
def test_the_entropy_of_a_label_in_bits(probability, bits):
    assert entropy(probability) == pytest.approx(bits)


def test_of_nothing_there_is_no_rate_and_no_zero():
    found = label_statistics([], False)
    assert found["flips"]["rate"] is None and found["flips"]["trials"] == 0


def test_a_judge_that_does_not_answer_its_question_is_told_of():
    good = option_mass([Verdict(0.9, masses=(0.99, 0.98))])
    poor = option_mass([Verdict(0.9, masses=(0.01, 0.02))])
    assert good["option_mass"]["mean"] == pytest.approx(0.985) and unanswered(good) == ""
    assert unanswered(poor) != "" and unanswered({}) == ""
