"""The reference, word for word."""

import pytest

from alignflow.data.configs.verifiers import ExactAnswerOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.exact import ExactAnswer


def outcome(text, reference, **options):
    return ExactAnswer(ExactAnswerOptions(**options)).check(Episode({"id": "q", "reference": reference}, text, True))


@pytest.mark.parametrize(
    ("text", "reference", "options", "score"),
    [
        (" The  Cat. ", "the cat", {}, 1.0),
        ("The cat", "the cat", {"ignore_case": False}, 0.0),
        ("the cat.", "the cat", {"ignore_punctuation": False}, 0.0),
        ("the cats", "the cat", {}, 0.0),
        ("caf\u0065\u0301", "caf\u00e9", {}, 1.0),
        ("?", "?", {}, 1.0),
        ("?", "!", {}, 0.0),
        ("-5", "5", {}, 0.0),
        ("5.", "-5", {}, 0.0),
        ("(\u22125).", "-5", {}, 1.0),
        ("-$5", "-5", {}, 1.0),
        ("- 5 cats", "5 cats", {}, 1.0),
        ("3-", "3", {}, 1.0),
        ("So: the answer is B.", "B", {"answer_from": "marked"}, 1.0),
        ("B", "B", {"answer_from": "marked"}, 0.0),
        ("working\n\nB\n \n", "first A\nB", {"answer_from": "last_line"}, 1.0),
        ("", "B", {}, 0.0),
        ("two", '["2", "Two"]', {"several": True}, 1.0),
        ("three", '["2", "Two"]', {"several": True}, 0.0),
    ],
)
def test_an_answer_is_the_reference_or_it_is_not(text, reference, options, score):
    assert outcome(text, reference, **options).score == score


def test_no_answer_is_unparsed_and_no_reference_is_no_score():
    assert not outcome("B", "B", answer_from="marked").parsed
    assert outcome("B", None).score is None
    assert outcome("B", "B", several=True).score is None and outcome("B", "[1]", several=True).score is None
