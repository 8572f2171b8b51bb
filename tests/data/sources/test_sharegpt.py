"""ShareGPT: what test_formats.py has no row for."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.sharegpt import parse

ASKED = [{"from": "human", "value": "q"}]
TURNS = [*ASKED, {"from": "gpt", "value": "a"}]


def test_a_conversation_is_a_prompt_or_an_answer_with_a_label():
    assert parse({"conversations": TURNS}, "prompts")[0]["prompt"] == user("q")
    assert parse({"conversation": TURNS, "label": 1}, "unpaired")[0]["label"] is True


def test_a_conversation_that_ends_with_an_answer_must_be_the_chosen_one():
    (row,) = parse(
        {"conversations": TURNS, "chosen": TURNS[1], "rejected": {"from": "gpt", "value": "b"}}, "preferences"
    )
    assert (row["prompt"], row["chosen"], row["rejected"]) == (user("q"), assistant("a"), assistant("b"))
    with pytest.raises(RowError, match="different_prompts"):
        parse({"conversations": TURNS, "chosen": {"from": "gpt", "value": "c"}, "rejected": TURNS[1]}, "preferences")


def test_a_mask_of_the_user_is_what_every_trainer_does_and_another_one_is_refused():
    assert parse({"conversations": TURNS, "mask": "User"}, "demonstrations")
    with pytest.raises(RowError, match="unknown_weight"):
        parse({"conversations": TURNS, "mask": "Assistant"}, "demonstrations")


def test_rows_with_messages_among_them_are_read_too():
    turns = [*user("q"), *assistant("a")]
    assert parse({"messages": turns}, "demonstrations") == [{"messages": turns}]
    assert parse({"conversations": TURNS, "messages": "else"}, "demonstrations") == [{"messages": turns}]


@pytest.mark.parametrize("name", ["function_response", "observation", "tool_output"])
def test_each_name_of_a_speaker_for_results_is_a_tool(name):
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    turns = [*ASKED, call, {"from": name, "value": "2"}, {"from": "gpt", "value": "a"}]
    found = parse({"conversations": turns}, "demonstrations")[0]["messages"]
    assert [turn["role"] for turn in found] == ["user", "assistant", "tool", "assistant"]
