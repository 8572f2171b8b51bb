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
    taken, merged = fit_to_template([row], kind, TOKENIZERS[model, "byte-level"], PrepareConfig(system=system))
    return row, taken.tolist(), merged


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_a_system_turn_that_the_template_refuses_is_told_apart(kind):
    row, taken, merged = fitted(kind, "gemma", "keep")
    assert (taken, merged) == ([False], 0) and row == {"id": "1", "source": "s", **ROWS[kind]}


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_with_merge_it_becomes_part_of_the_first_user_turn(kind):
    row, taken, merged = fitted(kind, "gemma", "merge")
    assert (taken, merged) == ([True], 1) and row["id"] != "1"
    assert (row.get("messages") or row["prompt"])[0] == {"role": "user", "content": "be kind\n\nq"}


@pytest.mark.parametrize("system", ["keep", "merge"])
def test_a_template_that_takes_system_turns_changes_nothing(system):
    row, taken, merged = fitted("demonstrations", "llama3", system)
    assert (row, taken, merged) == ({"id": "1", "source": "s", **ROWS["demonstrations"]}, [True], 0)


def test_merging_keeps_the_other_turns():
    turns = [*SYSTEM, *user("q"), *assistant("a"), *user("r")]
    assert merge_system(turns) == [{"role": "user", "content": "be kind\n\nq"}, *turns[2:]]


TOOL = {"type": "function", "function": {"name": "map", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}}
CALL = {"id": "call00001", "type": "function", "function": {"name": "map", "arguments": {"town": "Bern"}}}
WITH_TOOLS = [
    {**user("Bern?")[0], "tools": [TOOL]}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "Aare", "name": "map", "tool_call_id": "call00001"},
]  # fmt: skip
TOOL_ROWS = {
    "demonstrations": {"messages": [*WITH_TOOLS, *assistant("The Aare.")]},
    "prompts": {"prompt": WITH_TOOLS, "instructions": None},
    "preferences": {"prompt": WITH_TOOLS, "chosen": assistant("The Aare."), "rejected": assistant("No.")},
}


def rows_of(*rows):
    return Kept(rows=[{"id": str(number), "source": "s", **row} for number, row in enumerate(rows)], read=len(rows))


@pytest.mark.parametrize("kind", sorted(TOOL_ROWS))
def test_what_a_template_leaves_out_drops_the_row_with_a_reason_of_its_own(kind):
    kept = rows_of(TOOL_ROWS[kind], ROWS[kind])
    fit_to_template(kept, kind, TOKENIZERS["qwen3", "byte-level"], PrepareConfig())
    assert kept.dropped == {"tools_not_in_template": 1} and [row["id"] for row in kept.rows] == ["1"]
    kept = rows_of(TOOL_ROWS[kind], ROWS[kind])
    fit_to_template(kept, kind, TOOL_TOKENIZERS["qwen3", "byte-level"], PrepareConfig())
    assert not kept.dropped and len(kept.rows) == 2


def test_reasons_of_several_rows_are_counted_apart():
    thought = {"messages": [*user("q"), {**assistant("a")[0], "reasoning_content": "hm"}]}
    kept = rows_of(thought, TOOL_ROWS["demonstrations"], {"messages": [*user("q"), *WITH_TOOLS[1:], *assistant("a")]}, ROWS["demonstrations"])
    fit_to_template(kept, "demonstrations", TOKENIZERS["llama3", "byte-level"], PrepareConfig())
    assert kept.dropped == {"reasoning_not_in_template": 1, "tools_not_in_template": 1, "tool_calls_not_in_template": 1} and len(kept.rows) == 1


def test_merging_a_system_turn_keeps_the_tools():
    assert merge_system([{**SYSTEM[0], "tools": [TOOL]}, *user("q")]) == [{"role": "user", "content": "be kind\n\nq", "tools": [TOOL]}]
