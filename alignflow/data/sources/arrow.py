"""Rows of Parquet and Arrow files, batch by batch; a value that Python cannot hold breaks its row and no other."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from alignflow.data.errors import quoted
from alignflow.data.sources.base import BrokenLine, Row
from alignflow.data.sources.soundness import checked, without_nulls


def parquet_rows(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """Rows of a Parquet file; raises what Arrow raises where it is none."""
    before = 0
    opened = pq.ParquetFile(io.BytesIO(file.read()))
    names = class_names(opened.schema_arrow)
    for batch in opened.iter_batches(1024):
        yield from with_class_names(_rows(batch, before), names)
        before += batch.num_rows


def arrow_rows(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """Rows of an Arrow file or stream; raises what Arrow raises where it is none."""
    content = file.read()
    opened = pa.ipc.open_file if content[:6] == b"ARROW1" else pa.ipc.open_stream
    table = opened(pa.BufferReader(content)).read_all()
    table.validate(full=True)  # offsets that point out of a damaged file would be followed otherwise
    before = 0
    names = class_names(table.schema)
    for batch in table.to_batches(1024):
        yield from with_class_names(_rows(batch, before), names)
        before += batch.num_rows


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its classes, where `datasets` wrote them into a schema: such a column holds numbers that are places in the list."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        found = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}
    return {name: names for name, names in found.items() if isinstance(names, list)}


def with_class_names(
    rows: Iterable[Row | BrokenLine], names: Mapping[str, Sequence[str]]
) -> Iterator[Row | BrokenLine]:
    """The rows with the name of a class in the place of its number: 0 may be `chosen`. A number that has no name is left as it is."""
    for row in rows:
        if names and isinstance(row, dict):
            named = {
                column: known[row[column]]
                for column, known in names.items()
                if isinstance(row.get(column), int) and 0 <= row[column] < len(known)
            }
            row = {**row, **named}
        yield row


def _rows(batch: pa.RecordBatch, before: int) -> Iterator[Row | BrokenLine]:
    """The rows of a batch; one with a value that Python cannot hold (a time in the year 50000, bytes that are no UTF-8) is broken."""
    double = next((name for name in batch.schema.names if batch.schema.names.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"two columns are called {quoted(double)}")
    try:
        rows = batch.to_pylist()
    except (ValueError, ArithmeticError, pa.ArrowException):
        rows = [_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for number, row in enumerate(rows, before + 1):
        yield BrokenLine(number, "unreadable_value") if row is None else checked(without_nulls(row), number)


def _row(batch: pa.RecordBatch) -> Row | None:
    try:
        row: Row = batch.to_pylist()[0]
        return row
    except (ValueError, ArithmeticError, pa.ArrowException):
        return None
