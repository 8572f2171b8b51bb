"""Parses the sources of one kind into rows; what cannot be used is counted under one reason."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from alignflow.data.chunk_parsing import (
    PUT_TOGETHER,
    Assembled,
    Chunk,
    ParsedChunk,
    Row,
    in_chunks,
    left_out_example,
    parse_chunk,
    shortened,
)
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.dropped import OTHER_SPLIT
from alignflow.data.errors import DataError
from alignflow.data.row_workers import Workers
from alignflow.data.source_names import source_names
from alignflow.data.sources.base import BrokenLine, RawLine
from alignflow.data.sources.detect import LOOKED_AT, detect, with_names
from alignflow.data.sources.json_files import decoded
from alignflow.data.sources.reading import read_lines
from alignflow.data.sources.reading import read_rows as read_rows_of
from alignflow.data.sources.remarks import REMARKS
from alignflow.data.sources.splits import split_among_rows, split_of_row
from alignflow.data.spool import Spool, SpooledRows, read_rows, write_rows

LISTED = 5


@dataclass
class Kept:
    """The rows of one kind, and what became of the others.

    Attributes:
        rows: Rows of the table, with id and source.
        read: Lines read in all; messages that were put together into one conversation count once.
        dropped: Reason -> number.
        formats: Source -> its format, as named or detected.
        examples: Reason -> the first row that was dropped for it, shortened.
        remarks: Name of remarks.REMARKS -> number of parsed rows that a person should know of.
        unused: Source -> the columns that no row's parser read, in order.
    """

    rows: list[Row] | SpooledRows = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    def count(self, reason: str, example: str = "", number: int = 1) -> None:
        """Count dropped rows under `reason`; the first example of a reason is kept, shortened."""
        if number:
            self.dropped[reason] += number
            if example and reason not in self.examples:
                self.examples[reason] = shortened(example)

    @property
    def remark_lines(self) -> list[str]:
        """One line for each remark, with the number of rows."""
        return [f"{count} {REMARKS[name]}" for name, count in sorted(self.remarks.items())]

    def take(self, dropped: Mapping[str, int], examples: Mapping[str, str]) -> None:
        """Count what was dropped elsewhere, with the first example of each reason."""
        for reason, number in dropped.items():
            self.count(reason, examples.get(reason, ""), number)


@dataclass(frozen=True)
class Parsing:
    """How rows become those of a table, and who does it.

    Attributes:
        kind: The table, a name of records.SCHEMAS.
        config: Limits.
        kept: Filled with what is counted, but for its rows.
        spool: Where the chunks are written.
        workers: Who parses them.
        say: Hears how many rows were parsed.
    """

    kind: str
    config: PrepareConfig
    kept: Kept
    spool: Spool
    workers: Workers
    say: Callable[[int], None] = lambda rows: None


class NumberedLines:
    """The rows of a source with their numbers, from 1; broken lines are counted and left out.

    Attributes:
        read: Lines so far, broken ones included.
        decodes: Whether lines of JSON are decoded here; otherwise they are given as RawLine, and those that are broken have to be `add`ed.
    """

    def __init__(self, source: SourceConfig, label: str):
        self._source, self._label = source, label
        self._lines = read_lines(source)
        self.read = 0
        self.decodes = True
        self._broken: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._first: list[BrokenLine] = []

    def __iter__(self) -> Iterator[tuple[int, Row | RawLine]]:
        for line in self._lines:
            self.read += 1
            if self.decodes and isinstance(line, RawLine):
                line = decoded(line)
            if isinstance(line, BrokenLine):
                self.add([line])
            else:
                yield self.read, line

    def add(self, broken: Sequence[BrokenLine]) -> None:
        """Count broken lines; those of one reason in their order."""
        for line in broken:
            self._broken[line.reason] += 1
            self._examples.setdefault(line.reason, f"{self._label}: line {line.number}")
            # A line that is broken by its size is known before those in front of it are decoded.
            self._first = sorted([*self._first, line], key=lambda broken: broken.number)[:LISTED]

    def finish(self, kept: Kept, config: PrepareConfig) -> None:
        """Read on to the end, and count the lines.

        Raises:
            DataError: more of them than `max_broken_fraction` are broken.
        """
        self.decodes = True
        for _ in self:
            pass
        kept.take(self._broken, self._examples)
        kept.read += self.read
        broken = self._broken.total()
        if broken > config.max_broken_fraction * self.read:
            listed = "; ".join(f"line {line.number}: {line.reason}" for line in self._first)
            raise DataError(
                f"{broken} of {self.read} lines are broken ({listed}{'; ...' if broken > LISTED else ''})",
                where=self._source.path,
                do="save it as UTF-8 (`iconv -f WINDOWS-1252 -t UTF-8` does, if it is in that encoding)"
                if self._broken["not_utf8"] == broken
                else "repair the file, or raise data.max_broken_fraction",
            )


def parse_sources(sources: Sequence[SourceConfig], kind: str, config: PrepareConfig, kept: Kept | None = None) -> Kept:
    """All usable rows of `sources` as the table `kind`, in their order, held in memory; see `parse_to_spool`.

    Args:
        sources: What is read.
        kind: A name of records.SCHEMAS.
        config: Limits.
        kept: An empty one to fill, for a caller that wants to know what was counted before an error.

    Raises:
        DataError: a source cannot be read, has more broken lines than `max_broken_fraction`, or not one usable row.
    """
    kept = Kept() if kept is None else kept
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "rows") as spool, Workers(1) as workers:
        for chunk in parse_to_spool(sources, Parsing(kind, config, kept, spool, workers)):
            kept.rows = [*kept.rows, *read_rows(chunk.path, chunk.chosen)]
    return kept


def parse_to_spool(sources: Sequence[SourceConfig], parsing: Parsing) -> Iterator[Chunk]:
    """Parse sources, and give their rows as chunks on disk, source by source; what is counted goes to `parsing.kept`.

    Rows are read one after the other and held for some chunks at a time, but for those of a `.json` with one value and for messages
    of OpenAssistant that are rows of their own: these are held, those of a source together.

    Raises:
        DataError: as `parse_sources` does.
    """
    kept, names = parsing.kept, source_names(parsing.config, sources)
    for source in sources:
        dropped = kept.dropped.copy()
        label = names[source.path, source.split]
        chunks = _parse_source(source, label, parsing)
        if not any(chunk.size for chunk in chunks):
            found = (kept.dropped - dropped).most_common(4)
            reasons = ", ".join(f"{reason} {count}" for reason, count in found)
            example = (
                f"; an example of {found[0][0]}: {kept.examples[found[0][0]]}"
                if found and found[0][0] in kept.examples
                else ""
            )
            raise DataError(
                f"not one row can be used as {parsing.kind} ({reasons or 'no rows'}{example})",
                where=source.path,
                do=f"it was read as {kept.formats[label]}; `alignflow formats` says what each format can become",
            )
        yield from chunks


def _parse_source(source: SourceConfig, label: str, parsing: Parsing) -> list[Chunk]:
    kind, config, kept = parsing.kind, parsing.config, parsing.kept
    lines = NumberedLines(source, label)
    first: list[tuple[int, Any]] = list(
        islice(lines, LOOKED_AT)
    )  # of rows: lines are decoded until the format is known
    if not lines.read:
        raise DataError("no rows in it", where=source.path, do="check where it came from")
    try:
        name = (
            detect(with_names([row for _, row in first], source), source.path, kind)
            if source.format == "auto"
            else source.format
        )
    except DataError:
        lines.finish(kept, config)  # too many broken lines are the nearer reason
        raise
    split = _split_of_rows(source, [row for _, row in first])
    lines.decodes = name in PUT_TOGETHER or bool(split)
    trees = Assembled(name, _of_split(chain(first, lines), split, kept, label), source)
    jobs = ((parsing.spool.new(), rows, source, label, kind, name) for rows in in_chunks(trees))
    found = ParsedChunk(seen=trees.seen)
    chunks: list[Chunk] = []
    for path, part in parsing.workers.map(_parse_to_file, jobs):
        chunks.append(Chunk(path, part.kept, part.ids))
        lines.add(part.broken)
        found.add(part)
        parsing.say(lines.read)
    lines.finish(kept, config)
    kept.read -= trees.put_together
    kept.formats[label] = ", ".join(dict.fromkeys((*kept.formats.get(label, name).split(", "), name)))
    kept.take(found.dropped, found.examples)
    kept.remarks.update(found.remarks)
    found.read |= {"split"} if split else set()
    kept.unused[label] = sorted({*kept.unused.get(label, ()), *found.seen.unread(found.read, source.columns)})
    kept.take(Counter({"over_weight": found.over_weight}), {"over_weight": found.over_weight_example})
    return capped(chunks, source, kept) if source.max_rows is not None else chunks


def _split_of_rows(source: SourceConfig, first: Sequence[Row]) -> str:
    """The split whose rows alone are read, where a column `split` of the first rows tells one; then the source is read once for it."""
    if not any(map(split_of_row, first)):
        return ""
    told = {split_of_row(row) for row in read_rows_of(source) if not isinstance(row, BrokenLine)} - {""}
    return split_among_rows(told, source.split, source.path)


def _of_split(rows: Iterable[tuple[int, Any]], split: str, kept: Kept, label: str) -> Iterator[tuple[int, Any]]:
    """The numbered rows without those that tell another split, or none, which are counted."""
    for at, row in rows:
        if split and split_of_row(row) != split:
            kept.count(OTHER_SPLIT, f"{label}: row {at}: split: {row.get('split')}")
        else:
            yield at, row


def capped(chunks: list[Chunk], source: SourceConfig, kept: Kept) -> list[Chunk]:
    """The number of rows that a source's cap leaves, chosen by the rows' hash: new rows move few."""
    ids = np.concatenate([chunk.ids for chunk in chunks if chunk.ids is not None] or [np.zeros(0, dtype="S24")])
    most = source.max_rows
    if most is None or len(ids) <= most:
        return chunks
    stays = ids <= np.sort(ids)[most - 1]
    stays[np.nonzero(stays)[0][most:]] = False
    sizes = [chunk.size for chunk in chunks]
    parts = np.split(stays, np.cumsum(sizes)[:-1])
    rows = SpooledRows([(chunk.path, ~part) for chunk, part in zip(chunks, parts, strict=True)])
    kept.take(Counter({"over_max_rows": len(rows)}), {"over_max_rows": left_out_example(rows.row(0))})
    return [replace(chunk, chosen=part, size=int(part.sum())) for chunk, part in zip(chunks, parts, strict=True)]


def _parse_to_file(
    path: Path, rows: list[tuple[int, Row | RawLine]], source: SourceConfig, label: str, kind: str, name: str
) -> tuple[Path, ParsedChunk]:
    """Parse a chunk, in whatever process, and write its rows."""
    found, made = parse_chunk(rows, source, label, kind, name)
    write_rows(path, made)
    return path, found
