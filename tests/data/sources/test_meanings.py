"""Keys that change what a row means: a row that has one that no trainer follows is dropped with a reason."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.meanings import (
    PART_REASONS,
    TURN_REASONS,
    parse_with,
    refuse_meanings,
    trained,
    unread_keys,
)

ROW = {"messages": [*user("q"), *assistant("a")]}
PARSERS = {kind: lambda row: [{"seen": True}] for kind in ("demonstrations", "unpaired", "texts", "prompts")}


def test_a_key_with_something_in_it_is_refused_and_a_blank_or_switched_off_one_is_not():
    for name, reason in TURN_REASONS.items():
        with pytest.raises(RowError) as error:
            refuse_meanings({name: "something"}, TURN_REASONS)
        assert error.value.reason == reason
        refuse_meanings({name: None}, TURN_REASONS)
        refuse_meanings({name: 0}, TURN_REASONS)
    refuse_meanings({"other": 1}, PART_REASONS)


def test_an_answer_is_trained_on_unless_it_says_otherwise():
    assert trained({}, is_answer=True) and not trained({}, is_answer=False)
    assert not trained({"weight": 0}, is_answer=True) and trained({"train": "yes"}, is_answer=True)
    assert not trained({"train": False}, is_answer=False)


@pytest.mark.parametrize(
    ("turn", "is_answer", "reason"),
    [
        ({"weight": 0.5}, True, "unknown_weight"),
        ({"weight": 1, "train": False}, True, "unknown_weight"),
        ({"weight": 1}, False, "trained_prompt"),
    ],
)
def test_a_weight_that_no_trainer_follows_is_refused(turn, is_answer, reason):
    with pytest.raises(RowError, match=reason):
        trained(turn, is_answer=is_answer)


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (ROW, "rankings", "not_of_this_kind"),
        ({**ROW, "label": False}, "demonstrations", "labelled_bad"),
        ({**ROW, "weight": 0}, "demonstrations", "nothing_to_train"),
    ],
)
def test_a_row_is_refused_before_its_parser_sees_it(row, kind, reason):
    with pytest.raises(RowError, match=reason):
        parse_with(PARSERS, row, kind)


def test_a_bad_label_is_no_fault_of_an_answer_with_a_label_and_a_weight_none_of_a_prompt():
    assert parse_with(PARSERS, {**ROW, "label": False}, "unpaired") == [{"seen": True}]
    assert parse_with(PARSERS, {**ROW, "weight": 0}, "prompts") == [{"seen": True}]


def test_keys_of_turns_that_nothing_reads_are_named():
    row = {"messages": [{"role": "user", "content": "q", "mood": "good"}], "other": "text"}
    assert unread_keys(row, ["messages", "other"]) == {"messages[].mood"}
