"""A blank answer holds nothing that a reader sees, in whatever characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.judges.blanks import is_blank, same_answer

UNSEEN = [
    "",
    " ",
    "\t\r\n",
    "\u00a0\u3000",
    "\u200b\u200c\u200d",
    "\ufeff",
    "\u2060\u00ad",
    "\u3164\u115f",
    "\u2800",
    "\ufe0f",
    "\x00",
    "\U000e0041",
]


@pytest.mark.parametrize("text", UNSEEN)
def test_white_space_and_invisible_characters_are_blank(text):
    assert is_blank(text) and same_answer(text, "") and same_answer(text, " \n")


@pytest.mark.parametrize("text", ["a", ".", " 0 ", "\u200bx\u200b", "\u0301", "\U0001f44d\ufe0f", "\ufffd", "\ud800"])
def test_anything_that_is_drawn_is_not(text):
    assert not is_blank(text) and not same_answer(text, "") and same_answer(text, text)


def test_answers_that_differ_in_white_space_alone_are_two():
    assert not same_answer("a b", "a  b")


@given(st.text(), st.text(), st.sampled_from(UNSEEN))
def test_a_text_is_blank_exactly_where_all_its_parts_are(one, other, unseen):
    assert is_blank(one + unseen + other) == (is_blank(one) and is_blank(other))
