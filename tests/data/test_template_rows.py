"""Rows that a chat template does not take are told apart, or their system turn is merged where the recipe says so."""

import pytest
from chat_template_support import TOKENIZERS

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
