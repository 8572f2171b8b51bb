"""Raw rows in chunks: what is kept, dropped and counted of each."""

import pytest

from alignflow.data import chunk_parsing
from alignflow.data.chunk_parsing import (
    EXCERPT,
    Assembled,
    ParsedChunk,
    in_chunks,
    left_out_example,
    parse_chunk,
    shortened,
)
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.base import RawLine

SOURCE = SourceConfig(path="a.jsonl")


def parsed(rows, source=SOURCE):
    return parse_chunk(list(enumerate(rows, 1)), source, "a", "demonstrations", "trl")


def test_rows_are_kept_with_id_and_source_and_the_others_counted_with_an_example():
    found, rows = parsed([{"prompt": "q", "completion": "a"}, {"prompt": "q"}, {"prompt": "q", "completion": " "}])
    assert [row["source"] for row in rows] == ["a"] and len(rows[0]["id"]) >= 12
    assert found.kept == 1 and found.dropped == {"missing_column": 1, "empty": 1}
    assert found.examples["empty"].startswith("a: row 3")


def test_a_line_that_is_no_json_is_broken_and_one_that_is_is_decoded():
    found, rows = parsed([RawLine(1, b"{broken"), RawLine(2, b'{"prompt": "q", "completion": "a"}')])
    assert [line.number for line in found.broken] == [1] and len(rows) == 1


def test_a_weight_keeps_rows_by_their_hash_and_counts_the_others():
    rows = [{"prompt": f"q{number}", "completion": "a"} for number in range(200)]
    _, whole = parsed(rows)
    found, half = parsed(rows, SourceConfig(path="a.jsonl", weight=0.5))
    assert found.over_weight == 200 - len(half) and 60 < len(half) < 140 and found.over_weight_example
    assert [row for row in whole if row in half] == half


def test_pairs_below_the_least_confidence_of_a_source_are_dropped_and_those_that_say_nothing_stay():
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    sure = [{"confidence": 0.9}, {"confidence": 0.5, "soft_label": 0.9}, {"soft_label": 0.7}, {}, {"confidence": 0.8}]
    source = SourceConfig(path="a.jsonl", min_confidence=0.8)
    numbered = [(place, {**pair, **columns}) for place, columns in enumerate(sure, 1)]
    found, rows = parse_chunk(numbered, source, "a", "preferences", "trl")
    assert [row.get("confidence") for row in rows] == [0.9, None, 0.8] and found.dropped == {"low_confidence": 2}
    assert parse_chunk(numbered, SOURCE, "a", "preferences", "trl")[0].kept == 5


def test_counts_of_chunks_add_up_and_the_first_example_stays():
    first, later = (
        ParsedChunk(kept=1, examples={"empty": "one"}),
        ParsedChunk(kept=2, examples={"empty": "two", "x": "y"}),
    )
    first.add(later)
    assert first.kept == 3 and first.examples == {"empty": "one", "x": "y"}


def test_chunks_end_early_where_texts_are_long(monkeypatch):
    monkeypatch.setattr(chunk_parsing, "CHUNK_ROWS", 3)
    rows = list(enumerate([{"a": "x"}] * 7))
    assert [len(chunk) for chunk in in_chunks(iter(rows))] == [3, 3, 1]
    monkeypatch.setattr(chunk_parsing, "CHUNK_CHARACTERS", 2)
    assert [len(chunk) for chunk in in_chunks(iter(rows))] == [2, 2, 2, 1]
    assert list(in_chunks(iter([]))) == []


def test_an_example_is_one_line_of_limited_length():
    assert (
        shortened("a\n\x1b[31m b")
        and "\x1b" not in shortened("a\n\x1b[31m b")
        and len(shortened("x" * 9999)) == EXCERPT
    )
    assert left_out_example({"id": "1", "source": "a", "prompt": "q", "label": None}) == "a: prompt: q"


@pytest.mark.parametrize("labels, is_refused", [([0, 1, 1], True), ([0, 1, 2], False)])
def test_votes_of_0_and_1_alone_are_refused_once_all_of_them_are_read(labels, is_refused):
    rows = [
        {"prompt": f"q{at}", "response_a": "yes", "response_b": "no", "label": label} for at, label in enumerate(labels)
    ]
    found = Assembled("votes", enumerate(rows), SourceConfig(path="votes.jsonl"))
    if is_refused:
        with pytest.raises(DataError, match="labels are 0 and 1"):
            list(found)
    else:
        assert len(list(found)) == 3
