"""Calls of tools, their results and an answer's thinking: one form for the shapes of all data sets, and a reason for what is broken."""

import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data import catalogue
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.parsing import parse_sources
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.sources.base import RowError
from alignflow.data.sources.soundness import check_row

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "rain", "name": "weather"}
ASKED = [{**user("Bern?")[0], "tools": [TOOL]}]
WHOLE = [*ASKED, CALLED, RESULT, *assistant("It rains.")]
RAW_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Bern"}'}}],
}
RAW = [*user("Bern?"), RAW_CALL, {"role": "tool", "content": "rain"}, *assistant("It rains.")]


def parse(name, kind, row):
    (found,) = catalogue.FORMATS[name].resolve()(row, kind)
    return found


def reason(name, kind, row):
    with pytest.raises(RowError) as error:
        parse(name, kind, row)
    return error.value.reason


SHAREGPT = [
    {"from": "human", "value": "Bern?"},
    {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bern"}}'},
    {"from": "observation", "value": "rain"},
    {"from": "gpt", "value": "It rains."},
]
USE = {"type": "tool_use", "id": "u1", "name": "weather", "input": {"city": "Bern"}}
ANTHROPIC = [
    *user("Bern?"),
    {"role": "assistant", "content": [USE]},
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "u1", "content": [{"type": "text", "text": "rain"}]}],
    },
    *assistant("It rains."),
]
OLD = [
    *user("Bern?"),
    {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Bern"}'}},
    {"role": "function", "name": "weather", "content": "rain"},
    *assistant("It rains."),
]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": RAW, "tools": [TOOL]}),
        ("messages", {"messages": RAW, "tools": json.dumps([TOOL])}),
        ("messages", {"messages": RAW, "tools": [json.dumps(TOOL)]}),
        ("messages", {"messages": OLD, "functions": [TOOL["function"]]}),
        ("sharegpt", {"conversations": SHAREGPT, "tools": json.dumps([TOOL["function"]])}),
        ("trl", {"prompt": RAW[:3], "completion": RAW[3:], "tools": [TOOL]}),
        ("trl", {"prompt": "Bern?", "completion": RAW[1:], "tools": [TOOL]}),
    ],
)
def test_every_shape_gives_the_same_conversation(name, row):
    assert parse(name, "demonstrations", row) == {"messages": WHOLE}


def test_anthropics_parts_become_calls_and_results_with_their_ids():
    tool = {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}
    found = parse("messages", "demonstrations", {"messages": ANTHROPIC, "tools": [tool]})["messages"]
    assert found == [
        *ASKED,
        {**CALLED, "tool_calls": [{"id": "u1", **CALL}]},
        {**RESULT, "tool_call_id": "u1"},
        *assistant("It rains."),
    ]


HERMES = [
    {"from": "human", "value": "Bern?"},
    {"from": "gpt", "value": 'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'},
    {"from": "tool", "value": "<tool_response>\nrain\n</tool_response>"},
    {"from": "gpt", "value": "It rains."},
]


def test_marks_that_hermes_writes_around_calls_and_results_are_taken_off():
    whole = [*ASKED, {**CALLED, "content": "I look."}, RESULT, *assistant("It rains.")]
    assert parse("sharegpt", "demonstrations", {"conversations": HERMES, "tools": [TOOL]}) == {"messages": whole}
    assert parse("sharegpt", "demonstrations", {"conversations": HERMES[:2], "tools": [TOOL]}) == {
        "messages": whole[:2]
    }


def test_results_in_a_users_turn_after_a_call_are_those_of_the_tool():
    def spoken(result):
        return {"conversations": [*HERMES[:2], {"from": "human", "value": result}, HERMES[3]], "tools": [TOOL]}

    whole = [*ASKED, {**CALLED, "content": "I look."}, RESULT, *assistant("It rains.")]
    assert parse("sharegpt", "demonstrations", spoken(HERMES[2]["value"])) == {"messages": whole}
    assert parse("sharegpt", "prompts", spoken(HERMES[2]["value"]))["prompt"] == whole[:3]
    assert reason("sharegpt", "demonstrations", spoken("Thanks.")) == "tool_call_without_result"
    assert reason("sharegpt", "demonstrations", spoken(HERMES[2]["value"] + " And Rome?")) == "tool_markup_in_text"
    assert reason("sharegpt", "demonstrations", spoken(2 * HERMES[2]["value"])) == "tool_result_without_call"
    assert (
        reason(
            "sharegpt",
            "demonstrations",
            {"conversations": [{"from": "human", "value": HERMES[2]["value"]}, HERMES[3]], "tools": [TOOL]},
        )
        == "tool_markup_in_text"
    )


def test_an_answer_that_is_a_list_of_calls_of_the_rows_tools_is_calls():
    listed = json.dumps([CALL["function"]])
    row = {"prompt": "Bern?", "completion": listed, "tools": json.dumps([TOOL])}
    assert parse("trl", "demonstrations", row) == {"messages": WHOLE[:2]}
    assert reason("trl", "unpaired", {**row, "label": True}) == "answer_is_tool_call"
    for text in ('["Bern"]', "[]", "[Bern]", listed.replace("weather", "map")):
        assert parse("trl", "demonstrations", {**row, "completion": text})["messages"][1:] == assistant(text)
    twice = {"messages": [*user("Bern?"), {**RAW_CALL, "content": listed}], "tools": [TOOL]}
    assert reason("messages", "demonstrations", twice) == "tool_markup_in_text"
    assert parse("trl", "demonstrations", {**row, "tools": None})["messages"] == [*user("Bern?"), *assistant(listed)]


def test_tools_that_the_system_turn_tells_are_not_told_twice():
    system = {"from": "system", "value": "You may call <tools> [{'name': 'weather'}] </tools>"}
    found = parse("sharegpt", "demonstrations", {"conversations": [system, *HERMES], "tools": [TOOL]})["messages"]
    assert "tools" not in found[0] and found[2]["tool_calls"] == [CALL]


def test_a_text_with_such_marks_in_a_conversation_without_tools_stays_a_text():
    turns = [*user("How does Hermes call a tool?"), *assistant("With <tool_call>{}</tool_call>.")]
    assert parse("messages", "demonstrations", {"messages": turns}) == {"messages": turns}


def test_a_conversation_may_end_with_a_call_and_text_may_stand_before_one():
    found = parse(
        "messages",
        "demonstrations",
        {"messages": [*user("Bern?"), {**RAW_CALL, "content": "I look."}], "tools": [TOOL]},
    )
    assert found == {"messages": [*ASKED, {**CALLED, "content": "I look."}]}


def test_results_of_several_calls_are_matched_by_id_and_the_order_of_the_results_stays():
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": {}}} for name in ("a", "b")]
    results = [{"role": "tool", "content": name, "tool_call_id": name} for name in ("b", "a")]
    found = parse(
        "messages",
        "demonstrations",
        {"messages": [*user("q"), {**CALLED, "tool_calls": calls}, *results, *assistant("x")]},
    )["messages"]
    assert [(turn["name"], turn["content"]) for turn in found[2:4]] == [("b", "b"), ("a", "a")]


@pytest.mark.parametrize("more", [{"status": "ERROR 500"}, {"code": 0}, {"annotations": [{"type": "url_citation"}]}])
def test_a_result_or_a_part_with_more_than_a_text_drops_the_row(more):
    said = {"type": "text", "text": "rain", **more}
    whole = [[*RAW[:2], {"role": "tool", "content": content}, RAW[3]] for content in (said, [said])]
    for turns in (
        *whole,
        [*user("q"), {"role": "assistant", "content": [said]}],
        [{"role": "user", "content": [said]}, *assistant("a")],
    ):
        assert reason("messages", "demonstrations", {"messages": turns}) == "unknown_content"


def test_a_part_may_have_keys_that_say_nothing():
    said = {
        "type": "output_text",
        "text": "a",
        "annotations": [],
        "cache_control": {"type": "ephemeral"},
        "image_url": None,
        "citations": None,
    }
    assert parse("messages", "demonstrations", {"messages": [*user("q"), {"role": "assistant", "content": [said]}]})[
        "messages"
    ][1:] == assistant("a")


def test_one_result_without_a_name_may_be_that_of_several_calls():
    row = {
        "messages": [
            *user("q"),
            {**CALLED, "tool_calls": [CALL, CALL]},
            {"role": "tool", "content": "x"},
            *assistant("a"),
        ]
    }
    assert parse("messages", "demonstrations", row)["messages"][2] == {"role": "tool", "content": "x"}


def test_a_prompt_may_end_with_a_result_and_pairs_answer_it():
    assert parse("messages", "prompts", {"messages": RAW, "tools": [TOOL]})["prompt"] == WHOLE[:3]
    row = {"prompt": RAW[:3], "chosen": assistant("It rains."), "rejected": assistant("Sun."), "tools": [TOOL]}
    found = parse("trl", "preferences", row)
    assert found["prompt"] == WHOLE[:3] and found["chosen"] == assistant("It rains.")
    assert parse("messages", "unpaired", {"messages": RAW, "tools": [TOOL], "label": True})["prompt"] == WHOLE[:3]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        {"role": "assistant", "content": "a", "thinking": "hm"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}],
        },
    ],
)
def test_thinking_beside_an_answer_is_one_field(turn):
    assert parse("messages", "demonstrations", {"messages": [*user("q"), turn]})["messages"][1] == {
        **assistant("a")[0],
        "reasoning_content": "hm",
    }


def calls(**changes):
    return {
        "messages": [
            *user("q"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "weather", "arguments": {}, **changes}}],
            },
        ]
    }


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (calls(arguments="[1]"), "bad_tool_arguments"),
        (calls(arguments="{city: Bern}"), "bad_tool_arguments"),
        (calls(arguments='{"x": NaN}'), "bad_tool_arguments"),
        (calls(arguments='{"x": 1, "x": 2}'), "bad_tool_arguments"),
        (calls(arguments='{"x": "\\ud800"}'), "lone_surrogate"),
        (calls(name=""), "bad_tool_calls"),
        ({**calls(name="map"), "tools": [TOOL]}, "unknown_tool"),
        ({**calls(), "tools": [{"id": 1}]}, "bad_tools"),
        ({**calls(), "tools": [TOOL, TOOL]}, "bad_tools"),
        ({**calls(), "tools": "weather"}, "bad_tools"),
        ({**calls(), "tools": [TOOL], "functions": [TOOL]}, "bad_tools"),
        ({"messages": [*user("q"), {"role": "tool", "content": "x"}, *assistant("a")]}, "tool_result_without_call"),
        (
            {"messages": [*user("q"), *assistant("a"), {"role": "tool", "content": "x"}, *assistant("a")]},
            "tool_result_without_call",
        ),
        ({"messages": [*RAW[:2], *user("and?"), *assistant("a")]}, "tool_call_without_result"),
        (
            {"messages": [*RAW[:2], {"role": "tool", "content": "x", "name": "map"}, *assistant("a")]},
            "tool_result_without_call",
        ),
        ({"messages": [*RAW[:3], RAW[2], *assistant("a")]}, "tool_result_without_call"),
        ({"messages": [*RAW[:3], *user("and?"), *assistant("a")]}, "wrong_role_order"),
        ({"messages": [RAW_CALL, *RAW[2:]]}, "wrong_role_order"),
        ({"messages": [{**user("q")[0], "tool_calls": [CALL]}, *assistant("a")]}, "tool_calls"),
        ({"messages": [{**user("q")[0], "reasoning_content": "hm"}, *assistant("a")]}, "reasoning_not_used"),
        ({"messages": RAW[:3]}, "no_answer"),
        (
            {
                "messages": [
                    *RAW[:2],
                    {"role": "tool", "content": "<tool_response>\nrain\n</tool_response> or so"},
                    *assistant("a"),
                ]
            },
            "tool_markup_in_text",
        ),
        (
            {
                "messages": [*user("q"), *assistant('<tool_call>\n{"name": "weather"}\n</tool_call> or so')],
                "tools": [TOOL],
            },
            "tool_markup_in_text",
        ),
        (
            {"messages": [*user("q"), *assistant("<tool_call>\nweather\n</tool_call>")], "tools": [TOOL]},
            "bad_tool_calls",
        ),
        ({"messages": [{"role": "system", "content": "s", "tools": "[1]"}, *RAW]}, "tools_in_a_turn"),
        (
            {
                "messages": [
                    *ANTHROPIC[:2],
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "u1", "content": "x", "is_error": True}],
                    },
                    *assistant("a"),
                ]
            },
            "tool_error_not_used",
        ),
        (
            {
                "messages": [
                    *user("q"),
                    {"role": "assistant", "content": "a", "thinking": "x", "reasoning_content": "y"},
                ]
            },
            "reasoning_not_used",
        ),
    ],
)
def test_what_is_broken_drops_the_row_with_a_reason_of_its_own(row, why):
    assert reason("messages", "demonstrations", row) == why


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "chosen": [RAW_CALL], "rejected": assistant("b")}, "answer_is_tool_call"),
        (
            {"prompt": "q", "chosen": '<tool_call>{"name": "weather"}</tool_call>', "rejected": "b", "tools": [TOOL]},
            "answer_is_tool_call",
        ),
        (
            {"prompt": "q", "chosen": [{**assistant("a")[0], "thinking": "hm"}], "rejected": assistant("b")},
            "reasoning_not_used",
        ),
        (
            {
                "prompt": "q",
                "completions": [{"text": "a", "score": 1, "tool_calls": [CALL]}, {"text": "b", "score": 0}],
            },
            "tool_calls",
        ),
    ],
)
def test_an_answer_of_a_pair_is_a_text(row, why):
    assert reason("trl" if "chosen" in row else "comparison", "preferences", row) == why


def test_plain_text_is_not_made_of_calls():
    assert reason("trl", "texts", {"prompt": "q", "completion": [RAW_CALL]}) == "tool_calls"
    assert reason("trl", "texts", {"prompt": "q", "completion": "a", "tools": [TOOL]}) == "tool_calls"


NOT_JSON = [b"ab", datetime.datetime(2024, 1, 1), decimal.Decimal("1.5"), float("nan"), float("inf"), [float("nan")]]


@pytest.mark.parametrize("value", NOT_JSON)
def test_a_value_that_json_cannot_hold_drops_its_row_alone(tmp_path, value):
    call = {"function": {"name": "weather", "arguments": {"x": value}}}
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": {"type": "object", "default": value}},
    }
    rows = [
        {"messages": [*user("q"), {"role": "assistant", "content": "", "tool_calls": [call]}], "tools": None},
        {"messages": [*user("q"), *assistant("a")], "tools": [tool]},
        {"messages": [*user("q"), *assistant("b")], "tools": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    kept = parse_sources([SourceConfig(path=str(tmp_path / "t.parquet"))], "demonstrations", PrepareConfig())
    assert kept.dropped == {"bad_tool_arguments": 1, "bad_tools": 1} and [row["messages"] for row in kept.rows] == [
        [*user("q"), *assistant("b")]
    ]


@pytest.mark.parametrize("value", [{1: "a"}, [("a", 1)], [{"a": {2: 3}}]])
def test_names_that_are_no_texts_and_maps_of_a_typed_file_are_no_arguments(value):
    called = {
        **CALLED,
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"x": value}}}],
    }
    with pytest.raises(RowError, match="bad_tool_arguments"):
        check_row({"messages": [*user("q"), called]})


def test_an_infinite_number_of_json_is_no_argument(tmp_path):
    row = json.dumps(
        {
            "messages": [
                *user("q"),
                {**CALLED, "tool_calls": [{"function": {"name": "weather", "arguments": {"x": 0.5}}}]},
            ]
        }
    )
    (tmp_path / "t.jsonl").write_text(row.replace("0.5", "1e999") + "\n" + row + "\n")
    kept = parse_sources([SourceConfig(path=str(tmp_path / "t.jsonl"))], "demonstrations", PrepareConfig())
    assert kept.dropped == {"bad_tool_arguments": 1} and len(kept.rows) == 1


def test_two_tools_of_one_parquet_file_do_not_get_each_other_s_parameters(tmp_path):
    tools = [
        {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": {name: {"type": "string"}}}},
        }
        for name in ("a", "b")
    ]
    pq.write_table(
        pa.Table.from_pylist([{"messages": [*user(f"{tool} q"), *assistant("x")], "tools": [tool]} for tool in tools]),
        tmp_path / "t.parquet",
    )
    kept = parse_sources([SourceConfig(path=str(tmp_path / "t.parquet"))], "demonstrations", PrepareConfig())
    assert [row["messages"][0]["tools"] for row in kept.rows] == [[tool] for tool in tools]
    write_table(kept.rows, "demonstrations", tmp_path / "ours.parquet")
    assert read_table(tmp_path / "ours.parquet") == kept.rows


def test_a_field_that_is_null_in_the_first_file_and_text_in_the_second_is_read_in_both(tmp_path):
    for number, (system, calls) in enumerate([(None, None), ("Be kind.", "[]")]):
        rows = [{"system": system, "messages": [*user(f"q{number}"), {**assistant("a")[0], "tool_calls": calls}]}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"train-{number}.parquet")
    kept = parse_sources([SourceConfig(path=str(tmp_path))], "demonstrations", PrepareConfig())
    assert [row["messages"][0]["role"] for row in kept.rows] == ["user", "system"] and not kept.dropped
