"""Figures of answers as texts."""

import pytest

from alignflow.models.evaluators.base import Answer
from alignflow.models.evaluators.text_statistics import describe


def test_text_statistics_by_hand():
    found = describe([Answer("a b c a b c", True, 7), Answer("d", False, 3)])
    assert found["tokens_mean"] == 5 and found["stop_rate"] == 0.5 and found["words_mean"] == 3.5
    assert found["repetition"] == pytest.approx(0.25 / 2) and found["distinct_1"] == pytest.approx(4 / 7)
