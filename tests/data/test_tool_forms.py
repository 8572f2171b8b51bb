"""Forms in which templates take calls of tools: found out by marks."""

import json

import pytest

from alignflow.data.records import user
from alignflow.data.tool_forms import CALLS, REASONING, RESULTS, TOOLS, Form, form_of, left_out, sample_tool, shaped

CALL = {"id": "call00000", "type": "function", "function": {"name": "look", "arguments": {"x": "y"}}}
TURNS = [
    {**user("q")[0], "tools": [sample_tool("look")]},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "found", "name": "look", "tool_call_id": "call00000"},
    {"role": "assistant", "content": "a"},
]


class Tokenizer:
    """Writes what its function writes of the turns and the tools."""

    def __init__(self, write):
        self.chat_template = object()
        self._write = write

    def apply_chat_template(self, turns, tools=None, tokenize=False, **_):
        return self._write(turns, tools)


def everything(turns, tools):
    calls = [
        json.dumps(call["function"], ensure_ascii=False) for turn in turns for call in turn.get("tool_calls") or ()
    ]
    texts = [f"{turn['role']}:{turn['content']}{turn.get('reasoning_content', '')}" for turn in turns]
    return json.dumps(tools, ensure_ascii=False) + " ".join([*texts, *calls])


def test_a_template_that_writes_all_leaves_nothing_out():
    tokenizer = Tokenizer(everything)
    assert form_of(tokenizer) == Form() and left_out(tokenizer, TURNS) == ""


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda turns, tools: everything(turns, None), TOOLS),
        (lambda turns, tools: everything([{**turn, "tool_calls": None} for turn in turns], tools), CALLS),
        (lambda turns, tools: everything([turn for turn in turns if turn["role"] != "tool"], tools), RESULTS),
    ],
)
def test_what_a_template_leaves_out_is_a_reason(write, reason):
    assert left_out(Tokenizer(write), TURNS) == reason


def test_thinking_that_is_written_under_no_name_is_left_out():
    turns = [*user("q"), {"role": "assistant", "content": "a", "reasoning_content": "because"}]
    plain = Tokenizer(lambda turns, tools: " ".join(turn["content"] for turn in turns))
    assert left_out(plain, turns) == REASONING and left_out(plain, user("q")) == ""


def test_turns_are_given_in_the_form_without_what_is_not_for_a_template():
    (turn,) = shaped([{**TURNS[1], "weight": 0}], Form(arguments_are_text=True, no_text_is_none=True))
    assert (
        turn["content"] is None
        and turn["tool_calls"][0]["function"]["arguments"] == '{"x": "y"}'
        and "weight" not in turn
    )
