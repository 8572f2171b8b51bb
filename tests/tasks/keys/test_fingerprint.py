"""Which part of the lock file a definition belongs to."""

import pytest

from alignflow.tasks.keys.fingerprint import Parts, part_name, row_nodes
from alignflow.tasks.keys.reach import Definition


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
