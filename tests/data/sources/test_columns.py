"""Mapped names of columns: what a path names, what stands beside it, and what is hidden by it."""

import pytest

from alignflow.data.sources.base import RowError, TwoValues
from alignflow.data.sources.columns import WatchedRow, left_behind, renamed, root_of


def test_a_mapped_column_has_the_standard_name_alone():
    assert renamed({"question": "q", "other": 1}, {"prompt": "question"}) == {"prompt": "q", "other": 1}
    row = {"prompt": "q"}
    assert renamed(row, {}) is row


def test_a_path_leads_into_columns_and_lists_unless_a_column_has_that_name():
    row = {"data": {"turns": [{"text": "q"}]}, "data.x": "dotted"}
    assert renamed(row, {"prompt": "data.turns.0.text"})["prompt"] == "q"
    assert renamed(row, {"prompt": "data.x"})["prompt"] == "dotted"
    assert root_of(row, "data.x") == "data.x" and root_of(row, "data.turns") == "data"


@pytest.mark.parametrize("path", ["nothing", "data.nothing", "data.turns.7", "data.turns.one"])
def test_a_path_to_nothing_has_a_reason(path):
    with pytest.raises(RowError, match="missing_column"):
        renamed({"data": {"turns": ["q"]}}, {"prompt": path})


def test_what_changes_the_meaning_beside_a_value_becomes_a_column():
    row = {"data": {"q": "x", "system": "be brief", "note": "n"}}
    assert renamed(row, {"prompt": "data.q"}) == {"prompt": "x", "system": "be brief"}
    both = renamed({**row, "system": "be long"}, {"prompt": "data.q"})["system"]
    assert isinstance(both, TwoValues) and list(both) == ["be long", "be brief"], "two places disagree"


def test_what_a_mapped_name_hides_is_told():
    row = {"prompt": "old", "data": {"q": "new", "note": "n", "system": "s"}}
    assert left_behind(row, {"prompt": "data.q"}, set()) == {"prompt", "data.note", "data.system"}
    assert left_behind(row, {"prompt": "data.q"}, {"system"}) == {"prompt", "data.note"}, "the parser read it"


def test_a_watched_row_notes_what_is_looked_at():
    read = set()
    row = WatchedRow({"a": 1, "b": 2}, read)
    assert row["a"] == 1 and row.get("c") is None and read == {"a", "c"}
