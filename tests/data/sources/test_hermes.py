"""Calls and results as marks in texts (Hermes), and as bare lists (xLAM)."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.hermes import is_bare_call, is_call, tells_tools, with_bare_calls, without_marks

CALL = '<tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "look"}}]


def test_marks_become_calls_and_results_in_turns_of_their_own():
    turns = without_marks(
        [*user("q"), *assistant(f"I look. {CALL}"), *user("<tool_response>found</tool_response>"), *assistant("a")]
    )
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "assistant"]
    assert turns[1]["content"].strip() == "I look." and turns[1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert turns[2]["content"] == "found"


@pytest.mark.parametrize(
    "turns",
    [
        [*user("q"), *assistant(f"{CALL} and more text")],
        [*user("<tool_response>found</tool_response>")],
        [*user("q"), *assistant(CALL), *user("<tool_response>found</tool_response> and a question")],
    ],
)
def test_text_beside_marks_is_refused(turns):
    with pytest.raises(RowError, match="tool_markup_in_text"):
        without_marks(turns)


def test_a_list_of_calls_of_known_tools_is_a_call_and_any_other_list_is_text():
    bare = '[{"name": "look", "arguments": {"x": 1}}]'
    assert is_bare_call(bare, TOOLS) and not is_bare_call(bare, []) and not is_bare_call('[{"name": "look"}]', TOOLS)
    assert not is_bare_call("[]", TOOLS) and not is_bare_call("[broken", TOOLS)
    (_, turn) = with_bare_calls([*user("q"), *assistant(bare)], TOOLS)
    assert turn["content"] == "" and len(turn["tool_calls"]) == 1


def test_marks_are_seen_in_texts():
    assert is_call(f"x {CALL}") and not is_call("x")
    assert tells_tools([{"role": "system", "content": "<tools>[]</tools>"}]) and not tells_tools(user("<tools>"))
