"""Alpaca: what test_formats.py has no row for: pairs, labels, Dolly's context, system and history."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.alpaca import parse, request
from alignflow.data.sources.base import RowError


def test_pairs_stand_in_place_of_the_output():
    (row,) = parse({"instruction": "q", "chosen": "a", "rejected": "b"}, "preferences")
    assert row == {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}


def test_a_label_makes_it_an_answer_with_a_label():
    (row,) = parse({"instruction": "q", "output": "a", "label": 0}, "unpaired")
    assert row["completion"] == assistant("a") and row["label"] is False


@pytest.mark.parametrize("name", ["input", "context"])
def test_the_input_stands_below_the_instruction(name):
    assert request({"instruction": "q", name: "given"}) == user("q\n\ngiven")
    assert request({"instruction": "q", name: "  "}) == user("q"), "a blank one is none"


def test_system_and_history_stand_before_the_instruction():
    turns = request({"instruction": "q", "system": "s", "history": [["first", "answer"]]})
    assert turns == [{"role": "system", "content": "s"}, *user("first"), *assistant("answer"), *user("q")]


def test_an_input_that_is_no_text_is_refused():
    with pytest.raises(RowError, match="not_text"):
        request({"instruction": "q", "input": 3})
