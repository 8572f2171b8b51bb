"""Files of every kind give the same rows; what is no data is refused with one clear message."""

import gzip
import json

import datasets
import pandas
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.detect import kinds_of
from alignflow.data.sources.reading import BrokenLine, read_rows

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c, d", "completion": 'e "f"\ng'}]


def write(path, kind):
    table = pandas.DataFrame(ROWS)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    writers = {
        "jsonl": lambda: path.write_text(lines),
        "jsonl.gz": lambda: path.write_bytes(gzip.compress(lines.encode())),
        "json": lambda: path.write_text(json.dumps(ROWS)),
        "lines.json": lambda: path.write_text(lines),
        "wrapped.json": lambda: path.write_text(json.dumps({"version": 1, "data": ROWS})),
        "csv": lambda: table.to_csv(path, index=False),
        "tsv": lambda: table.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: table.to_parquet(path),
        "saved": lambda: datasets.Dataset.from_list(ROWS).save_to_disk(str(path)),
        "saved_dict": lambda: datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(str(path)),
        "arrow": lambda: datasets.Dataset.from_list(ROWS).to_parquet(str(path.with_suffix(".parquet"))),
    }
    writers[kind]()


@pytest.mark.parametrize(
    "kind", ["jsonl", "jsonl.gz", "json", "lines.json", "wrapped.json", "csv", "tsv", "parquet", "saved", "saved_dict"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    write(path, kind)
    assert list(read_rows(SourceConfig(path=str(path)))) == ROWS


def test_an_arrow_file_is_read(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    assert list(read_rows(SourceConfig(path=str(arrow)))) == ROWS


def test_passages_of_a_text_file(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("one\n<|endoftext|>\ntwo\n\nstill two")
    assert [row["text"] for row in read_rows(SourceConfig(path=str(path)))] == ["one", "two\n\nstill two"]


def test_broken_lines_have_a_number_and_a_reason(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\nnot json\n\n[1]\n{"a": "\xff"}\n')
    found = list(read_rows(SourceConfig(path=str(path))))
    assert found == [{"a": 1}, BrokenLine(2, "not_json"), BrokenLine(4, "not_a_row"), BrokenLine(5, "not_utf8")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "empty"),
        ("page.json", b"\n\n<!DOCTYPE html>\n<html></html>", "web page"),
        ("page.jsonl", b"<html><body>404</body></html>", "web page"),
        ("rows.xyz", b"?", "unknown kind of file"),
        ("rows.jsonl.gz", b"not gzip", "gzip"),
        ("rows.parquet", b"not parquet", "cannot be read"),
        ("rows.json", b"[1, 2", "not JSON"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(SourceConfig(path=str(tmp_path / name))))


@pytest.mark.parametrize("path", ["./nowhere", "nowhere.jsonl", "folder/nowhere.parquet", "nowhere.json.gz"])
def test_a_missing_file_is_refused_and_not_looked_for_on_the_hub(path):
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(SourceConfig(path=path)))


def test_unknown_columns_are_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"colour": "red"}\n')
    with pytest.raises(DataError, match="colour"):
        kinds_of(SourceConfig(path=str(tmp_path / "rows.jsonl")))


def test_a_line_that_no_model_could_read_is_counted_and_the_lines_around_it_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("alignflow.data.sources.soundness.MOST_BYTES", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * 5000 + '"}\n{"a": 2}\n{"a": "' + "y" * 1500 + '"}')
    found = list(read_rows(SourceConfig(path=str(path))))
    assert [row for row in found if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert [(line.number, line.reason) for line in found if not isinstance(line, dict)] == [
        (2, "over_16_MiB"),
        (4, "over_16_MiB"),
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "txt", "json", "saved"])
def test_a_text_that_no_model_could_read_is_counted_in_every_kind_of_file(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("alignflow.data.sources.soundness.MOST_BYTES", 1000)
    texts, path = ["first", "x" * 1001, "last"], tmp_path / f"rows.{suffix}"
    frame = pandas.DataFrame({"text": texts})
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
        "txt": lambda: path.write_text("\n\n".join(texts)),
        "saved": lambda: datasets.Dataset.from_pandas(frame).save_to_disk(str(path)),
        "json": lambda: frame.to_json(path, orient="records"),
    }[suffix]()
    found = list(read_rows(SourceConfig(path=str(path))))
    assert [row["text"] for row in found if isinstance(row, dict)] == ["first", "last"]
    assert [line.reason for line in found if not isinstance(line, dict)] == ["over_16_MiB"]


def test_a_passage_that_is_too_large_is_divided_at_line_ends_and_only_a_line_that_is_too_large_is_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("alignflow.data.sources.soundness.MOST_BYTES", 10)
    path = tmp_path / "book.txt"
    path.write_text("one\ntwo\nthree\nfour\n" + "x" * 30 + "\nfive\n\nsix")
    found = list(read_rows(SourceConfig(path=str(path))))
    assert found == [
        {"text": "one\ntwo"},
        {"text": "three"},
        {"text": "four"},
        BrokenLine(4, "over_16_MiB"),
        {"text": "five"},
        {"text": "six"},
    ]
