"""A pattern that the answer has to match."""

import pytest

from alignflow.data.configs.verifiers import RegularExpressionOptions
from alignflow.data.errors import RecipeError
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.patterns import RegularExpression


def outcome(text, reference=None, **options):
    return RegularExpression(RegularExpressionOptions(**options)).check(
        Episode({"id": "q", "reference": reference}, text, True)
    )


@pytest.mark.parametrize(
    ("text", "options", "score"),
    [
        ("see <answer>5</answer>", {"pattern": r"<answer>\d+</answer>"}, 1.0),
        ("see 5", {"pattern": r"\d+", "match": "full"}, 0.0),
        (" 5 ", {"pattern": r"\d+", "match": "full"}, 1.0),
        ("Yes", {"pattern": "yes"}, 0.0),
        ("Yes", {"pattern": "yes", "ignore_case": True}, 1.0),
        ("I am sorry", {"pattern": "sorry", "expect": "no_match"}, 0.0),
        ("", {"pattern": "^$"}, 1.0),
    ],
)
def test_a_pattern_matches_or_not(text, options, score):
    assert outcome(text, **options).score == score


def test_a_row_may_bring_the_pattern():
    assert outcome("abc", "b").score == 1
    assert outcome("abc").score is None and outcome("abc", "(").score is None


def test_a_search_without_end_is_given_up_and_gives_no_score():
    found = outcome("a" * 60 + "!", pattern=r"(a|aa)+$", timeout_s=0.05)
    assert found.score is None and "longer than 0.05 s" in found.reason


def test_an_answer_over_the_limit_is_not_searched():
    found = outcome("a" * 11, pattern="a", max_characters=10)
    assert found.score == 0 and not found.parsed


def test_a_pattern_of_the_recipe_that_is_none_is_refused():
    with pytest.raises(RecipeError, match="not a regular expression"):
        outcome("a", pattern="(")


def test_a_pattern_that_calls_itself_gives_no_score(monkeypatch):
    class Endless:
        def search(self, text, timeout):
            raise MemoryError

    monkeypatch.setattr("alignflow.models.rewards.verifiers.patterns.compiled", lambda pattern, flags: Endless())
    found = outcome("abc", reference="(?R)")
    assert found.score is None and "too much memory" in found.reason
