"""Parses the sources of one kind into rows; what cannot be used is counted under one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.records import row_id
from alignflow.data.sources.base import RowError
from alignflow.data.sources.detect import LOOKED_AT, detect
from alignflow.data.sources.reading import BrokenLine, read_rows
from alignflow.data.sources.soundness import check_row

Row = dict[str, Any]
LISTED = 5


@dataclass
class Kept:
    """The rows of one kind, and what became of the others.

    Attributes:
        rows: Rows of the table, with id and source.
        read: Lines read in all.
        dropped: Reason -> number.
        formats: Source -> its format, as named or detected.
        examples: Reason -> one row that was dropped for it, as text.
        unused: Source -> columns that were not used.
    """

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)


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
    for source in sources:
        before = len(kept.rows)
        _parse_source(source, kind, config, kept)
        if len(kept.rows) == before:
            reasons = ", ".join(f"{reason} {count}" for reason, count in (+kept.dropped).most_common(4))
            raise DataError(
                f"not one row can be used as {kind} ({reasons or 'no rows'})", where=source.path,
                do=f"it was read as {kept.formats[source_name(source)]}; `alignflow formats` says what each format can become",
            )  # fmt: skip
    return kept


def _parse_source(source: SourceConfig, kind: str, config: PrepareConfig, kept: Kept) -> None:
    lines = list(read_rows(source))
    broken = [line for line in lines if isinstance(line, BrokenLine)]
    kept.read += len(lines)
    kept.dropped.update(line.reason for line in broken)
    if not lines:
        raise DataError("no rows in it", where=source.path, do="check where it came from")
    if len(broken) > config.max_broken_fraction * len(lines):
        listed = "; ".join(f"line {line.number}: {line.reason}" for line in broken[:LISTED])
        raise DataError(
            f"{len(broken)} of {len(lines)} lines are broken ({listed}{'; ...' if len(broken) > LISTED else ''})", where=source.path,
            do="repair the file, or raise data.max_broken_fraction",
        )  # fmt: skip
    raw = [line for line in lines if not isinstance(line, BrokenLine)]
    name = detect(raw[:LOOKED_AT], source.path) if source.format == "auto" else source.format
    kept.formats[source_name(source)] = name
    parse = catalogue.FORMATS[name].resolve()
    rows: list[Row] = []
    for row in raw:
        try:
            parsed = parse(row, kind)
            for found in parsed:
                check_row(found)
        except RowError as error:
            kept.dropped[error.reason] += 1
            continue
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            ArithmeticError,
            RecursionError,
        ):  # data of any shape may be under a known column's name
            kept.dropped["malformed"] += 1
            continue
        rows += [{"id": row_id(kind, found), "source": source_name(source), **found} for found in parsed]
    kept.rows += choose(rows, source, kept.dropped)


def source_name(source: SourceConfig) -> str:
    """A source's name without its folder, for tables that go from machine to machine."""
    return Path(source.path).name


def choose(rows: list[Row], source: SourceConfig, dropped: Counter[str]) -> list[Row]:
    """The share and number of rows that a source's weight and cap leave, chosen by the rows' hash: new rows move few."""
    chosen = [row for row in rows if int(row["id"][:12], 16) < source.weight * 16**12]
    dropped["over_weight"] += len(rows) - len(chosen)
    if source.max_rows is not None and len(chosen) > source.max_rows:
        limit = sorted(row["id"] for row in chosen)[source.max_rows - 1]
        dropped["over_max_rows"] += len(chosen) - source.max_rows
        chosen = [row for row in chosen if row["id"] <= limit][: source.max_rows]
    return chosen
