"""Raw rows of a source in chunks, and how one chunk becomes rows of a table: each row by itself, in whatever process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alignflow.data import catalogue
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.printable import printable
from alignflow.data.records import row_id
from alignflow.data.sources.base import BrokenLine, RawLine, RowError, is_blank
from alignflow.data.sources.columns import CARRIED, WatchedRow, left_behind, renamed, root_of
from alignflow.data.sources.detect import assembled
from alignflow.data.sources.json_files import decoded
from alignflow.data.sources.meanings import unread_keys
from alignflow.data.sources.oasst import is_message
from alignflow.data.sources.remarks import remarks_of
from alignflow.data.sources.soundness import check_row
from alignflow.data.sources.votes import numbers_of, refuse_scale, refuse_zero_and_one
from alignflow.data.sources.written_lists import unpacked

Row = dict[str, Any]
EXCERPT = 200
"""Characters of the example of a reason."""
CHUNK_ROWS, CHUNK_CHARACTERS = 1000, 1 << 23
"""A chunk ends with so many rows, or with the row that makes it so large. Nothing that is written depends on where chunks end."""
PUT_TOGETHER: Mapping[str, Callable[[Any], bool]] = {"oasst": is_message, "votes": lambda row: True}
"""Formats whose raw rows may be put together before they are parsed, and whether a row is one of those."""
NOT_OF_THIS_SHAPE = (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
"""What a parser may meet where data of any shape is under a known column's name."""


@dataclass
class Seen:
    """Columns with something in them, as far as it can be told before all rows are parsed which of them are read.

    Attributes:
        names: Columns.
        keys: Column -> keys of its turns that no format reads, as `column.key`.
        behind: What mapped names hide.
    """

    names: set[str] = field(default_factory=set)
    keys: dict[str, set[str]] = field(default_factory=dict)
    behind: set[str] = field(default_factory=set)

    def look(self, row: Row, source: SourceConfig) -> None:
        """Take in a raw row."""
        mapped = {root_of(row, path) for path in source.columns.values()}
        for name, value in row.items():
            if name not in self.names and name not in mapped and not is_blank(value):
                self.names.add(name)
            turns = unpacked(name, value)
            if isinstance(turns, list) and (keys := unread_keys({name: turns}, (name,))):
                self.keys.setdefault(name, set()).update(keys)
        if mapped:
            self.behind |= left_behind(row, source.columns, ())

    def add(self, other: Seen) -> None:
        """Take in what was seen in other rows."""
        self.names |= other.names
        self.behind |= other.behind
        for name, keys in other.keys.items():
            self.keys.setdefault(name, set()).update(keys)

    def unread(self, read: Collection[str], columns: Mapping[str, str]) -> set[str]:
        """The columns that no parser looked at, such keys of the turns in those that one did, and what mapped names hide."""
        used = {
            path
            for path in self.behind
            if (name := path.rpartition(".")[2]) in CARRIED and name not in columns and name in read
        }
        keys = {key for name, found in self.keys.items() if name in read for key in found}
        return {name for name in self.names if name not in read} | keys | self.behind - used


@dataclass
class ParsedChunk:
    """What became of some raw rows.

    Attributes:
        kept: Rows of the table.
        ids: Their ids, where the source has a cap [rows], S24.
        dropped: Reason -> number.
        examples: Reason -> the first row that was dropped for it.
        over_weight: Rows that the source's weight leaves out.
        over_weight_example: The first of them.
        remarks: Name of REMARKS -> number of kept rows.
        broken: Lines that turned out to be no rows, where they were decoded here.
        read: Columns that a parser looked at.
        seen: Columns with something in them.
    """

    kept: int = 0
    ids: np.ndarray | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    over_weight: int = 0
    over_weight_example: str = ""
    broken: list[BrokenLine] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    seen: Seen = field(default_factory=Seen)

    def add(self, later: ParsedChunk) -> None:
        """Take in the counts of a later chunk, but for its broken lines, which whoever reads the lines counts."""
        self.kept += later.kept
        for (
            reason,
            count,
        ) in later.dropped.items():  # the order of first occurrence decides between reasons of one number
            self.dropped[reason] += count
        self.examples = {**later.examples, **self.examples}
        self.over_weight += later.over_weight
        self.over_weight_example = self.over_weight_example or later.over_weight_example
        self.remarks.update(later.remarks)
        self.read |= later.read
        self.seen.add(later.seen)


@dataclass(frozen=True)
class Chunk:
    """Rows of a table in a file of the spool.

    Attributes:
        path: The file.
        size: How many of its rows count.
        ids: Ids of all rows of the file, where the source has a cap [rows], S24.
        chosen: Which of its rows count, where not all do [rows], booleans.
    """

    path: Path
    size: int
    ids: np.ndarray | None = None
    chosen: np.ndarray | None = None


class Assembled:
    """Numbered rows as the parser of a format takes them, one after the other.

    Rows of a format that is not PUT_TOGETHER may be RawLine, and stay as they are. Messages of OpenAssistant that are rows of their own become trees,
    and votes on the same two answers one row, for which all rows from the first such one on are held.

    Attributes:
        put_together: By how much their number fell.
        seen: The columns of the rows, where the format is one of PUT_TOGETHER: `parse_chunk` does not see them as they were.
    """

    def __init__(self, name: str, rows: Iterable[tuple[int, Any]], source: SourceConfig):
        self._name, self._rows, self._source = name, rows, source
        self.put_together = 0
        self.seen = Seen()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        rows = self._looked_at() if self._name in PUT_TOGETHER else iter(self._rows)
        for at, row in rows:
            if self._name in PUT_TOGETHER and PUT_TOGETHER[self._name](row):
                held = [(at, row), *rows]
                together = assembled(self._name, held, self._source.columns)
                self.put_together = len(held) - len(together)
                yield from together
            else:
                yield at, row

    def _looked_at(self) -> Iterator[tuple[int, Row]]:
        numbers: set[str] = set()
        for at, row in self._rows:
            self.seen.look(row, self._source)
            if self._name == "votes":
                numbers |= _numbers(row, self._source)
            yield at, row
        refuse_zero_and_one(numbers, self._source.path)
        refuse_scale(numbers, self._source.path)


def _numbers(row: Row, source: SourceConfig) -> set[str]:
    try:
        return numbers_of(renamed(row, source.columns))
    except RowError:  # the parser says why
        return set()


def in_chunks(rows: Iterable[tuple[int, Row | RawLine]]) -> Iterator[list[tuple[int, Row | RawLine]]]:
    """Numbered rows in lists of CHUNK_ROWS at most, which end early where their texts are long."""
    chunk: list[tuple[int, Row | RawLine]] = []
    size = 0
    for numbered in rows:
        chunk.append(numbered)
        size += len(numbered[1].data) if isinstance(numbered[1], RawLine) else _characters(numbered[1])
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return (
        sum(map(_characters, value.values() if isinstance(value, dict) else value))
        if isinstance(value, dict | list)
        else 8
    )


def parse_chunk(
    rows: list[tuple[int, Row | RawLine]], source: SourceConfig, label: str, kind: str, name: str
) -> tuple[ParsedChunk, list[Row]]:
    """Numbered raw rows as rows of the table `kind`, by the parser of the format `name`, without those that the source's weight leaves out.

    `label` is the source's name in the rows and in examples.
    """
    found = ParsedChunk()
    made: list[Row] = []
    parse = catalogue.FORMATS[name].resolve()
    for at, line in rows:
        row = decoded(line) if isinstance(line, RawLine) else line
        if isinstance(row, BrokenLine):
            found.broken.append(row)
            continue
        if name not in PUT_TOGETHER:
            found.seen.look(row, source)
        try:
            named = renamed(row, source.columns)
            parsed = parse(WatchedRow(named, found.read), kind)
            for each in parsed:
                check_row(each)
                refuse_unsure(each, source.min_confidence)
            new = [{"id": row_id(kind, each), "source": label, **each} for each in parsed]
        except RowError as error:
            _count(found, error.reason, label, at, row)
            continue
        except NOT_OF_THIS_SHAPE:
            _count(found, "malformed", label, at, row)
            continue
        made += new
        found.remarks.update(remark for each in parsed for remark in remarks_of(named, each))
    chosen = made if source.weight >= 1 else [row for row in made if int(row["id"][:12], 16) < source.weight * 16**12]
    if len(chosen) < len(made):
        first = next(row for row, other in zip(made, [*chosen, None], strict=False) if row is not other)
        found.over_weight, found.over_weight_example = len(made) - len(chosen), left_out_example(first)
    found.kept = len(chosen)
    if source.max_rows is not None:
        found.ids = np.array([row["id"] for row in chosen], dtype="S24")
    return found, chosen


def refuse_unsure(row: Row, least: float) -> None:
    """Raise RowError (`low_confidence`) for a pair whose labeller is less sure than `least`; one that does not say it stays."""
    sure = next((row[name] for name in ("confidence", "soft_label") if row.get(name) is not None), None)
    if sure is not None and sure < least:
        raise RowError("low_confidence")


def _count(found: ParsedChunk, reason: str, label: str, at: int, row: Row) -> None:
    """Count a dropped row; its excerpt is made for the first of a reason alone."""
    found.dropped[reason] += 1
    if reason not in found.examples:
        found.examples[reason] = shortened(f"{label}: row {at}: {_excerpt(row)}")


def left_out_example(row: Row) -> str:
    """A row of a table as the example of those that the recipe leaves out."""
    given = {name: value for name, value in row.items() if name not in ("id", "source")}
    return shortened(f"{row['source']}: {_excerpt(given)}")


def _excerpt(row: Row) -> str:
    return ", ".join(f"{name}: {str(value)[: EXCERPT // 2]}" for name, value in row.items() if not is_blank(value))


def shortened(example: str) -> str:
    """An example as it is shown: one line of EXCERPT characters at most."""
    text = printable(" ".join(example[: 10 * EXCERPT].split()))
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."
