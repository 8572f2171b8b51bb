"""Rows of Parquet and Arrow files: a struct has the fields of its own row, and not those of others."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.sources.arrow import class_names, with_class_names
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


def test_a_class_is_given_by_its_name_since_its_number_is_a_place_in_a_list(tmp_path):
    """`label` 0 of the classes [chosen, rejected] was a bad answer."""
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "label": datasets.ClassLabel(names=["chosen", "rejected"])}
    )
    table = datasets.Dataset.from_dict({"prompt": ["a", "b", "c"], "label": [0, 1, None]}, features=features)
    table.to_parquet(tmp_path / "rows.parquet")
    table.save_to_disk(str(tmp_path / "saved"))
    wanted = ["chosen", "rejected", None]
    places = [tmp_path / "rows.parquet", tmp_path / "saved", next((tmp_path / "saved").glob("*.arrow"))]
    for place in places:
        assert [row["label"] for row in read_rows(SourceConfig(path=str(place)))] == wanted
    assert class_names(pa.schema([], metadata={"huggingface": "no JSON"})) == {}
    assert list(with_class_names([{"a": 7}, {"a": -1}], {"a": ["x"]})) == [{"a": 7}, {"a": -1}]
