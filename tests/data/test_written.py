"""Texts of templates with the places of control tokens that stand in a user's text."""

from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.records import user
from alignflow.data.written import Written, free_mark, shared


def test_before_a_place_only_whole_control_tokens_stay_literal():
    text = Written("ab<x>cd<x>", ((2, 5), (7, 10)))
    assert text.before(7) == Written("ab<x>cd", ((2, 5),)) and text.before(9).literal == ((2, 5),)
    assert text.followed_by("!") == Written("ab<x>cd<x>!", text.literal)


def test_a_mark_is_a_character_that_no_message_has():
    first = free_mark(user("q"))
    assert free_mark(user(f"q{first}")) not in ("", first)


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_the_longest_common_beginning(first, second):
    length = shared(first, second)
    assert first[:length] == second[:length] and length <= min(len(first), len(second))
    assert length == min(len(first), len(second)) or first[length] != second[length]
