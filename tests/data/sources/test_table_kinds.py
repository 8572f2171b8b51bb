"""Files of one source that hold different things."""

import pytest

from alignflow.data.errors import DataError
from alignflow.data.sources.base import BrokenLine
from alignflow.data.sources.table_kinds import kind_of, refuse_another_kind

ROWS = {
    "pairs": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "several answers": {"prompt": "q", "responses": ["a", "b"]},
    "labelled answers": {"prompt": "q", "completion": "a", "label": True},
    "conversations": {"messages": [{"role": "user", "content": "q"}]},
    "prompts with an answer": {"instruction": "q", "output": "a"},
    "prompts": {"prompt": "q"},
    "texts": {"text": "one"},
    "": {"x": 1},
}


@pytest.mark.parametrize(("kind", "row"), ROWS.items())
def test_columns_tell_the_kind(kind, row):
    assert kind_of([row]) == kind


def test_a_column_that_only_a_later_row_fills_counts():
    assert kind_of([{"prompt": "q", "responses": None}, {"prompt": "q", "responses": ["a", "b"]}]) == "several answers"


def test_files_of_one_kind_are_read_whole_and_one_of_another_kind_is_refused():
    told = {}
    lines = [BrokenLine(1, "not_json"), *[ROWS["prompts"]] * 30]
    assert list(refuse_another_kind(iter(lines), "a.jsonl", told, "folder")) == lines and told == {"prompts": "a.jsonl"}
    assert len(list(refuse_another_kind(iter([ROWS["prompts"]]), "b.jsonl", told, "folder"))) == 1
    with pytest.raises(DataError, match="differ in kind") as raised:
        list(refuse_another_kind(iter([ROWS["pairs"]]), "c.jsonl", told, "folder"))
    assert "a.jsonl" in str(raised.value) and "c.jsonl" in str(raised.value)


def test_rows_that_tell_nothing_fit_to_all():
    told = {"pairs": "a.jsonl"}
    assert len(list(refuse_another_kind(iter([ROWS[""]]), "b.jsonl", told, "folder"))) == 1
