"""Tools, calls and thinking in a table: as they were, and a table without them is what it was before there were any."""

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.records import (
    SCHEMAS,
    WEIGHTED_DEMONSTRATIONS,
    assistant,
    prompt_digest,
    read_table,
    user,
    write_table,
)
from alignflow.data.tools import is_structured, mapped, texts_in, tools_of, with_tools

TOOL = {
    "type": "function",
    "function": {"name": "w", "parameters": {"type": "object", "properties": {"z": {}, "a": {"type": "string"}}}},
}
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "w", "arguments": {"z": None, "a": [1, 2.5, True, {"ü": "x"}]}},
}
CALLED = [
    *user("q"),
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "content": "", "name": "w", "tool_call_id": "1"},
]
PLAIN = {"id": "0", "source": "s", "messages": [*user("q"), *assistant("a")]}
INNER = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
JSON = st.recursive(
    INNER, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def test_a_table_has_calls_and_tools_as_they_were_beside_rows_without(tmp_path):
    rows = [
        {
            **PLAIN,
            "messages": with_tools([*CALLED, {**assistant("a")[0], "weight": 0}, *CALLED, *assistant("b")], [TOOL]),
        },
        PLAIN,
    ]
    write_table(rows, "demonstrations", tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert found == rows
    assert list(tools_of(found[0]["messages"])[0]["function"]["parameters"]["properties"]) == ["z", "a"], (
        "names keep their order"
    )


def test_pairs_prompts_and_completions_keep_the_tools_of_their_prompt(tmp_path):
    pair = {"chosen": assistant("a"), "rejected": assistant("b")}
    beside = {
        "preferences": pair,
        "prompts": {},
        "completions": {"completions": ["a"]},
        "unpaired": {"completion": assistant("a")},
    }
    for kind, columns in beside.items():
        row = {"id": "0", "source": "s", "prompt": with_tools(CALLED, [TOOL]), **columns}
        write_table([row], kind, tmp_path / f"{kind}.parquet")
        (found,) = read_table(tmp_path / f"{kind}.parquet")
        assert {name: found[name] for name in row} == row and "tools" not in found


def test_a_table_without_tools_has_no_place_for_them(tmp_path):
    write_table([PLAIN], "demonstrations", tmp_path / "plain.parquet")
    assert pq.read_schema(tmp_path / "plain.parquet").equals(SCHEMAS["demonstrations"])
    write_table(
        [{**PLAIN, "messages": [*user("q"), {**assistant("a")[0], "weight": 0}, *user("q"), *assistant("b")]}],
        "demonstrations",
        tmp_path / "weights.parquet",
    )
    assert pq.read_schema(tmp_path / "weights.parquet").equals(WEIGHTED_DEMONSTRATIONS)


def test_prompts_that_differ_in_their_tools_or_calls_are_different_prompts():
    other = with_tools(user("q"), [{"type": "function", "function": {"name": "other"}}])
    assert (
        len(
            {
                prompt_digest(turns)
                for turns in (
                    user("q"),
                    with_tools(user("q"), [TOOL]),
                    other,
                    CALLED,
                    [*user("q"), {"role": "assistant", "content": ""}, CALLED[2]],
                )
            }
        )
        == 5
    )


def test_what_makes_a_conversation_more_than_texts():
    assert not is_structured(PLAIN["messages"]) and not is_structured([{**PLAIN["messages"][0], "tools": []}])
    assert all(
        is_structured(turns)
        for turns in (
            CALLED,
            CALLED[2:],
            with_tools(user("q"), [TOOL]),
            [{**assistant("a")[0], "reasoning_content": "x"}],
        )
    )


@given(JSON)
def test_every_text_in_a_value_is_changed_and_nothing_else(value):
    assert mapped(value, lambda text: text) == value
    assert texts_in(mapped(value, lambda text: f"{text}!")) == [f"{text}!" for text in texts_in(value)]
