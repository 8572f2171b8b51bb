"""Words, stems and questions, as the principles see them."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.words import content_stems, question_of, question_words, stem, words_of


def test_an_apostrophe_or_hyphen_inside_a_word_belongs_to_it():
    assert words_of("Don’t re-read 'it'; _why_?") == ["don't", "re-read", "it", "why"]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("dogs", "dog"), ("running", "runn"), ("dog's", "dog"), ("is", "is"), ("red", "red"), ("bus", "bus")],
)
def test_an_ending_goes_where_three_letters_stay(word, wanted):
    assert stem(word) == wanted


def test_words_of_content_are_those_of_no_language_that_are_longer_than_two_letters():
    assert content_stems(["the", "dogs", "of", "und", "ox", "barked"]) == ["dog", "bark"]


def test_the_question_is_the_last_turn_of_the_user():
    candidate = Candidate((*user("first"), *assistant("a"), *user("Second one")), "b", True)
    assert question_of(candidate) == "Second one" and question_words(candidate) == ["second", "one"]
    assert question_of(Candidate((), "b", True)) == ""
