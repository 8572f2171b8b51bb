"""Rows that a chat template does not take are dropped and counted, or their system turn is merged where the recipe says so."""

import pytest
from chat_template_support import TOKENIZERS

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.parsing import Kept
from alignflow.data.records import assistant, user
from alignflow.data.template_rows import fit_to_template, merge_system

SYSTEM = [{"role": "system", "content": "be kind"}]
ROWS = {
    "demonstrations": {"messages": [*SYSTEM, *user("q"), *assistant("a")]},
    "prompts": {"prompt": [*SYSTEM, *user("q")], "instructions": None},
    "preferences": {"prompt": [*SYSTEM, *user("q")], "chosen": assistant("a"), "rejected": assistant("b")},
}


def kept_of(kind):
    return Kept(rows=[{"id": "1", "source": "s", **ROWS[kind]}], read=1)


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_a_system_turn_that_the_template_refuses_drops_its_row(kind):
    kept = kept_of(kind)
    assert fit_to_template(kept, kind, TOKENIZERS["gemma", "byte-level"], PrepareConfig()) == 0
    assert kept.rows == [] and kept.dropped == {"refused_by_template": 1} and "be kind" in kept.examples["refused_by_template"]


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_with_merge_it_becomes_part_of_the_first_user_turn(kind):
    kept = kept_of(kind)
    assert fit_to_template(kept, kind, TOKENIZERS["gemma", "byte-level"], PrepareConfig(system="merge")) == 1
    (row,) = kept.rows
    assert (row.get("messages") or row["prompt"])[0] == {"role": "user", "content": "be kind\n\nq"}
    assert row["id"] != "1" and not kept.dropped


@pytest.mark.parametrize("system", ["keep", "merge"])
def test_a_template_that_takes_system_turns_changes_nothing(system):
    kept = kept_of("demonstrations")
    assert fit_to_template(kept, "demonstrations", TOKENIZERS["llama3", "byte-level"], PrepareConfig(system=system)) == 0
    assert kept.rows == kept_of("demonstrations").rows


def test_merging_keeps_the_other_turns():
    turns = [*SYSTEM, *user("q"), *assistant("a"), *user("r")]
    assert merge_system(turns) == [{"role": "user", "content": "be kind\n\nq"}, *turns[2:]]
