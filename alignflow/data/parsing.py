"""Parses the sources of one kind into rows; what cannot be used is counted under one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.printable import printable
from alignflow.data.records import row_id
from alignflow.data.source_names import source_names
from alignflow.data.sources.base import RowError, is_blank
from alignflow.data.sources.columns import WatchedRow, left_behind, renamed, root_of
from alignflow.data.sources.detect import LOOKED_AT, assembled, detect, with_names
from alignflow.data.sources.meanings import unread_keys
from alignflow.data.sources.reading import BrokenLine, read_rows
from alignflow.data.sources.soundness import check_row

Row = dict[str, Any]
LISTED = 5
EXCERPT = 200
"""Characters of the example of a reason."""


@dataclass
class Kept:
    """The rows of one kind, and what became of the others.

    Attributes:
        rows: Rows of the table, with id and source.
        read: Lines read in all; messages that were put together into one conversation count once.
        dropped: Reason -> number.
        formats: Source -> its format, as named or detected.
        examples: Reason -> the first row that was dropped for it, shortened.
        unused: Source -> the columns that no row's parser read, in order.
    """

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)

    def count(self, reason: str, example: str = "") -> None:
        """Count one dropped row under `reason`; the first example of a reason is kept, cut to EXCERPT characters."""
        self.dropped[reason] += 1
        if example and reason not in self.examples:
            text = printable(" ".join(example[: 10 * EXCERPT].split()))
            self.examples[reason] = text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."


def parse_sources(sources: Sequence[SourceConfig], kind: str, config: PrepareConfig, kept: Kept | None = None) -> Kept:
    """All usable rows of `sources` as the table `kind`, in their order.

    Args:
        sources: What is read.
        kind: A name of records.SCHEMAS.
        config: Limits.
        kept: An empty one to fill, for a caller that wants to know what was counted before an error.

    Raises:
        DataError: a source cannot be read, has more broken lines than `max_broken_fraction`, or not one usable row.
    """
    kept = Kept() if kept is None else kept
    names = source_names(config, sources)
    for source in sources:
        before, dropped = len(kept.rows), kept.dropped.copy()
        label = names[source.path, source.split]
        _parse_source(source, label, kind, config, kept)
        if len(kept.rows) == before:
            found = (kept.dropped - dropped).most_common(4)
            reasons = ", ".join(f"{reason} {count}" for reason, count in found)
            example = f"; an example of {found[0][0]}: {kept.examples[found[0][0]]}" if found and found[0][0] in kept.examples else ""
            raise DataError(
                f"not one row can be used as {kind} ({reasons or 'no rows'}{example})", where=source.path,
                do=f"it was read as {kept.formats[label]}; `alignflow formats` says what each format can become",
            )  # fmt: skip
    return kept


def _parse_source(source: SourceConfig, label: str, kind: str, config: PrepareConfig, kept: Kept) -> None:
    lines = list(read_rows(source))
    if not lines:
        raise DataError("no rows in it", where=source.path, do="check where it came from")
    for line in lines:
        if isinstance(line, BrokenLine):
            kept.count(line.reason, f"{label}: line {line.number}")
    kept.read += len(lines)
    _refuse_broken(source, lines, config)
    raw = [(at, line) for at, line in enumerate(lines, 1) if not isinstance(line, BrokenLine)]
    name = detect(with_names([row for _, row in raw[:LOOKED_AT]], source), source.path, kind) if source.format == "auto" else source.format
    kept.formats[label] = ", ".join(dict.fromkeys((*kept.formats.get(label, name).split(", "), name)))
    parse = catalogue.FORMATS[name].resolve()
    read: set[str] = set()
    rows: list[Row] = []
    together = assembled(name, raw)
    kept.read -= len(raw) - len(together)
    for at, row in together:
        try:
            parsed = parse(WatchedRow(renamed(row, source.columns), read), kind)
            for found in parsed:
                check_row(found)
        except RowError as error:
            _count_row(kept, error.reason, label, at, row)
            continue
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            ArithmeticError,
            RecursionError,
        ):  # data of any shape may be under a known column's name
            _count_row(kept, "malformed", label, at, row)
            continue
        rows += [{"id": row_id(kind, found), "source": label, **found} for found in parsed]
    unread = _unread(raw, source, read)
    kept.unused[label] = sorted({*kept.unused.get(label, ()), *unread})
    kept.rows += choose(rows, source, kept)


def _refuse_broken(source: SourceConfig, lines: Sequence[Row | BrokenLine], config: PrepareConfig) -> None:
    broken = [line for line in lines if isinstance(line, BrokenLine)]
    if len(broken) > config.max_broken_fraction * len(lines):
        listed = "; ".join(f"line {line.number}: {line.reason}" for line in broken[:LISTED])
        raise DataError(
            f"{len(broken)} of {len(lines)} lines are broken ({listed}{'; ...' if len(broken) > LISTED else ''})", where=source.path,
            do="repair the file, or raise data.max_broken_fraction",
        )  # fmt: skip


def _count_row(kept: Kept, reason: str, label: str, at: int, row: Row) -> None:
    """Count a dropped row; its excerpt is made for the first of a reason alone."""
    kept.count(reason, "" if reason in kept.examples else f"{label}: row {at}: {_excerpt(row)}")


def _excerpt(row: Row) -> str:
    return ", ".join(f"{name}: {str(value)[:EXCERPT // 2]}" for name, value in row.items() if not is_blank(value))


def _unread(raw: Sequence[tuple[int, Row]], source: SourceConfig, read: set[str]) -> set[str]:
    """The columns with something in them that no parser looked at, and such keys of the turns in those that one did."""
    found: set[str] = set()
    for _, row in raw:
        mapped = {root_of(row, path) for path in source.columns.values()}
        found |= {name for name, value in row.items() if name not in read and name not in mapped and not is_blank(value)}
        found |= unread_keys(row, read) | (left_behind(row, source.columns, read) if source.columns else set())
    return found


def choose(rows: list[Row], source: SourceConfig, kept: Kept) -> list[Row]:
    """The share and number of rows that a source's weight and cap leave, chosen by the rows' hash: new rows move few."""
    chosen = [row for row in rows if int(row["id"][:12], 16) < source.weight * 16**12]
    _count_left_out(kept, "over_weight", rows, chosen)
    if source.max_rows is not None and len(chosen) > source.max_rows:
        limit = sorted(row["id"] for row in chosen)[source.max_rows - 1]
        capped = [row for row in chosen if row["id"] <= limit][: source.max_rows]
        _count_left_out(kept, "over_max_rows", chosen, capped)
        chosen = capped
    return chosen


def _count_left_out(kept: Kept, reason: str, rows: list[Row], left: list[Row]) -> None:
    stay = {id(row) for row in left}
    for row in rows:
        if id(row) not in stay:
            given = {name: value for name, value in row.items() if name not in ("id", "source")}
            kept.count(reason, "" if reason in kept.examples else f"{row['source']}: {_excerpt(given)}")
