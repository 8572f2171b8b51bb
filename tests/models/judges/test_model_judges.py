"""What judges share that ask a language model."""

import pytest

from alignflow.models.judges.model_judges import once_each, weighted_mean


def test_equal_keys_are_made_once_and_come_back_in_order():
    asked = []

    def make(places):
        asked.extend(places)
        return [f"made at {place}" for place in places]

    assert once_each(["a", "b", "a"], make) == ["made at 0", "made at 1", "made at 0"] and asked == [0, 1]


def test_a_weighted_mean():
    assert weighted_mean([1.0, 4.0], [2.0, 1.0]) == pytest.approx(2.0)
