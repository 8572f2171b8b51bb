"""`messages`: conversations in the form of the chat APIs."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.messages import parse

TURNS = [*user("q"), *assistant("a"), *user("more"), *assistant("b")]


def test_a_conversation_is_a_demonstration_a_prompt_or_an_answer_with_a_label():
    assert parse({"messages": TURNS}, "demonstrations") == [{"messages": TURNS}]
    assert parse({"messages": TURNS}, "prompts")[0]["prompt"] == TURNS[:3]
    (row,) = parse({"messages": TURNS, "label": "good"}, "unpaired")
    assert (row["prompt"], row["completion"], row["label"]) == (TURNS[:3], assistant("b"), True)


def test_what_follows_the_last_answer_that_is_trained_on_changes_nothing():
    unweighted = {**TURNS[3], "weight": 0}
    assert parse({"messages": [*TURNS[:3], unweighted]}, "demonstrations") == [{"messages": TURNS[:2]}]


def test_a_conversation_that_ends_with_a_question_is_no_demonstration():
    with pytest.raises(RowError, match="no_answer"):
        parse({"messages": [*TURNS, *user("bye")]}, "demonstrations")


def test_two_users_in_a_row_are_refused():
    with pytest.raises(RowError, match="wrong_role_order"):
        parse({"messages": [*user("q"), *user("r"), *assistant("a")]}, "demonstrations")


def test_rows_of_sharegpt_among_them_are_read_too():
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert parse({"conversations": turns}, "demonstrations") == [{"messages": [*user("q"), *assistant("a")]}]
