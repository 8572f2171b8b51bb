"""A length within bounds."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.verifiers import LengthOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.length import Length, length_score


@pytest.mark.parametrize(
    ("count", "score"), [(2, 0.5), (3, 0.75), (4, 1.0), (10, 1.0), (11, 0.75), (14, 0.0), (99, 0.0)]
)
def test_the_score_falls_in_a_line_outside_of_the_bounds(count, score):
    assert length_score(count, LengthOptions(least=4, most=10, falls_over=4)) == score


def test_without_a_slope_it_is_in_or_out():
    assert [length_score(count, LengthOptions(most=3)) for count in (0, 3, 4)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("unit", "score"), [("words", 1.0), ("characters", 0.0), ("tokens", 0.0)])
def test_what_is_counted(unit, score):
    assert Length(LengthOptions(unit=unit, most=2)).check(Episode({"id": "q"}, "two words", True, 5)).score == score


def test_tokens_that_nobody_counted_give_no_score():
    assert Length(LengthOptions(most=2)).check(Episode({"id": "q"}, "a", True)).score is None


@pytest.mark.parametrize("bounds", [{}, {"least": 5, "most": 4}])
def test_bounds_without_meaning_are_refused(bounds):
    with pytest.raises(ValidationError, match="least|most"):
        LengthOptions(**bounds)
