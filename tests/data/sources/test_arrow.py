"""Rows of Parquet and Arrow files: a struct has the fields of its own row, and not those of others."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.sources.reading import read_rows


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


ROWS = [
    {"prompt": "a", "tools": [tool("weather", city={"type": "string"})]},
    {
        "prompt": "b",
        "tools": [
            tool("clock", zone={"type": "string", "enum": ["utc", "local"]}),
            tool("weather", city={"type": "string"}),
        ],
    },
    {"prompt": "c", "tools": [tool("coin")]},
]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "saved"])
def test_two_tools_with_different_properties_keep_their_own(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    table = pa.Table.from_pylist(ROWS)
    assert table.to_pylist() != ROWS, "Arrow itself gives each tool the properties of the others"
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    assert list(read_rows(SourceConfig(path=str(path)))) == ROWS


def test_a_column_that_is_null_keeps_its_name(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "system": pa.array([None], pa.string())}), tmp_path / "rows.parquet")
    assert list(read_rows(SourceConfig(path=str(tmp_path / "rows.parquet")))) == [{"prompt": "a", "system": None}]


def test_a_column_may_be_null_in_the_first_file_and_text_in_the_second(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "system": pa.nulls(1)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"prompt": ["b"], "system": ["Be short."]}), tmp_path / "2.parquet")
    assert [row["system"] for row in read_rows(SourceConfig(path=str(tmp_path)))] == [None, "Be short."]
