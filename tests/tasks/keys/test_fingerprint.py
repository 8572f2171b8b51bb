"""Which part of the lock file a definition belongs to."""

import pytest

from alignflow.data.shared_parts import VERSIONED
from alignflow.tasks.keys.fingerprint import Parts, part_name, row_nodes
from alignflow.tasks.keys.reach import Code, Definition


@pytest.fixture(scope="module")
def parts():
    return Parts()


def test_a_part_is_called_by_its_table_and_name(parts):
    assert part_name("stages", "sft") == "stages.sft" and {"stages.sft", "methods.dpo"} <= set(parts.names)


def test_the_code_of_a_part_begins_at_its_row():
    (row, *_) = row_nodes("methods.dpo")
    assert row.module == "alignflow.data.catalogue.methods" and "dpo" in row.name


def test_what_a_row_names_is_its_own(parts):
    assert parts.owner(Definition("alignflow.models.losses.dpo", "dpo")) == "methods.dpo"


def test_a_part_does_not_reach_itself(parts):
    assert "stages.sft" not in parts.reaches("stages.sft") and parts.reaches("stages.sft")


@pytest.mark.parametrize("part", [part for part in Parts().names if not part.startswith("parts.")])
def test_every_row_is_found_where_it_is_written_and_a_method_reaches_its_code(part, parts):
    """A row that METHODS takes from another table had no source at all: any change of it went unseen."""
    (row, *_) = row_nodes(part)
    symbols = parts.code.module(row.module).symbols
    assert row.name in symbols
    table, _, name = part.partition(".")
    address = getattr(VERSIONED[table][name], "address", "")
    if address.startswith("alignflow.") and ":" in address:
        assert Definition(*address.split(":")) in parts.code.reached([row])
    assert parts.members(part)


def test_a_change_of_a_loss_whose_row_is_in_another_table_is_seen():
    module = "alignflow.models.losses.nash"
    code = Code()
    source = code.source(module)
    assert "0.5" in source
    changed = Parts(Code({module: source.replace("0.5", "0.4")}))
    assert changed.fingerprint("methods.nash_md") != Parts(code).fingerprint("methods.nash_md")
