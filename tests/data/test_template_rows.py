"""Rows that a chat template does not take are told apart, or their system turn is merged where the recipe says so."""

import pytest
from chat_template_support import TOKENIZERS
from tool_template_support import TOOL_TOKENIZERS

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.records import assistant, user
from alignflow.data.template_rows import fit_to_template, merge_system

SYSTEM = [{"role": "system", "content": "be kind"}]
ROWS = {
    "demonstrations": {"messages": [*SYSTEM, *user("q"), *assistant("a")]},
    "prompts": {"prompt": [*SYSTEM, *user("q")], "instructions": None},
    "preferences": {"prompt": [*SYSTEM, *user("q")], "chosen": assistant("a"), "rejected": assistant("b")},
}


def fitted(kind, model, system):
    row = {"id": "1", "source": "s", **ROWS[kind]}
    reasons, merged = fit_to_template([row], kind, TOKENIZERS[model, "byte-level"], PrepareConfig(system=system))
    return row, reasons, merged


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_a_system_turn_that_the_template_refuses_is_told_apart(kind):
    row, reasons, merged = fitted(kind, "gemma", "keep")
    assert (reasons, merged) == (["refused_by_template"], 0) and row == {"id": "1", "source": "s", **ROWS[kind]}


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_with_merge_it_becomes_part_of_the_first_user_turn(kind):
    row, reasons, merged = fitted(kind, "gemma", "merge")
    assert (reasons, merged) == ([""], 1) and row["id"] != "1"
    assert (row.get("messages") or row["prompt"])[0] == {"role": "user", "content": "be kind\n\nq"}


@pytest.mark.parametrize("system", ["keep", "merge"])
def test_a_template_that_takes_system_turns_changes_nothing(system):
    row, reasons, merged = fitted("demonstrations", "llama3", system)
    assert (row, reasons, merged) == ({"id": "1", "source": "s", **ROWS["demonstrations"]}, [""], 0)


def test_merging_keeps_the_other_turns():
    turns = [*SYSTEM, *user("q"), *assistant("a"), *user("r")]
    assert merge_system(turns) == [{"role": "user", "content": "be kind\n\nq"}, *turns[2:]]


TOOL = {
    "type": "function",
    "function": {"name": "map", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}},
}
CALL = {"id": "call00001", "type": "function", "function": {"name": "map", "arguments": {"town": "Bern"}}}
WITH_TOOLS = [
    {**user("Bern?")[0], "tools": [TOOL]},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "Aare", "name": "map", "tool_call_id": "call00001"},
]
TOOL_ROWS = {
    "demonstrations": {"messages": [*WITH_TOOLS, *assistant("The Aare.")]},
    "prompts": {"prompt": WITH_TOOLS, "instructions": None},
    "preferences": {"prompt": WITH_TOOLS, "chosen": assistant("The Aare."), "rejected": assistant("No.")},
}


def reasons_of(kind, tokenizer, *rows):
    return fit_to_template([{"id": "1", "source": "s", **row} for row in rows], kind, tokenizer, PrepareConfig())[0]


@pytest.mark.parametrize("kind", sorted(TOOL_ROWS))
def test_what_a_template_leaves_out_drops_the_row_with_a_reason_of_its_own(kind):
    assert reasons_of(kind, TOKENIZERS["qwen3", "byte-level"], TOOL_ROWS[kind], ROWS[kind]) == [
        "tools_not_in_template",
        "",
    ]
    assert reasons_of(kind, TOOL_TOKENIZERS["qwen3", "byte-level"], TOOL_ROWS[kind], ROWS[kind]) == ["", ""]


def test_each_row_has_its_own_reason():
    thought = {"messages": [*user("q"), {**assistant("a")[0], "reasoning_content": "hm"}]}
    called = {"messages": [*user("q"), *WITH_TOOLS[1:], *assistant("a")]}
    reasons = reasons_of(
        "demonstrations",
        TOKENIZERS["llama3", "byte-level"],
        thought,
        TOOL_ROWS["demonstrations"],
        called,
        ROWS["demonstrations"],
    )
    assert reasons == ["reasoning_not_in_template", "tools_not_in_template", "tool_calls_not_in_template", ""]


def test_merging_a_system_turn_keeps_the_tools():
    assert merge_system([{**SYSTEM[0], "tools": [TOOL]}, *user("q")]) == [
        {"role": "user", "content": "be kind\n\nq", "tools": [TOOL]}
    ]
