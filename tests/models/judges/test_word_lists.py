"""Word lists of the principles: as the principles look words up."""

from alignflow.models.judges.word_lists import NEGATIONS, NEGATIVE, POSITIVE, STOP_WORDS
from alignflow.models.judges.words import words_of


def test_every_word_is_one_that_a_text_can_have():
    for words in (*STOP_WORDS.values(), POSITIVE, NEGATIVE, NEGATIONS):
        for word in words:
            assert words_of(word) == [word], word


def test_no_word_has_two_sides():
    assert not POSITIVE & NEGATIVE


def test_a_word_that_carries_no_content_has_no_sentiment():
    assert not STOP_WORDS["en"] & (POSITIVE | NEGATIVE) - {"like"}
