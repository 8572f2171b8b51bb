"""Finds the format of a source by the columns of its first rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError, cut
from alignflow.data.sources.base import Row, RowError
from alignflow.data.sources.reading import BrokenLine, read_rows

LOOKED_AT = 20


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and "\n\nAssistant:" in value and "Human:" in value


# In the order of how telling the columns are: the first that fits is the format.
SIGNS: Mapping[str, Callable[[Row], bool]] = {
    "sharegpt": lambda row: _is_list(row.get("conversations")),
    "messages": lambda row: _is_list(row.get("messages")),
    "hh_rlhf": lambda row: "prompt" not in row and _is_transcript(row.get("chosen")),
    "comparison": lambda row: ("instruction" in row and _is_list(row.get("output"))) or any(
        _is_list(row.get(name)) and bool(row[name]) and isinstance(row[name][0], dict) for name in ("responses", "answers", "completions")
    ),
    "alpaca": lambda row: "instruction" in row,
    "trl": lambda row: "prompt" in row or {"chosen", "rejected"} <= row.keys(),
    "text": lambda row: isinstance(row.get("text"), str),
}  # fmt: skip


def detect(rows: list[Row], where: str) -> str:
    """The format that most of some first rows look like; raises DataError that names their columns."""
    votes = [name for row in rows for name in [next((name for name, fits in SIGNS.items() if fits(row)), "")] if name]
    if not votes:
        columns = sorted({str(name) for row in rows for name in row})
        raise DataError(
            f"no known format has the columns {cut(', '.join(columns[:12])) or '(none)'}", where=where,
            do="name the format in the recipe (`alignflow formats` lists them), or rename the columns",
        )  # fmt: skip
    return max(dict.fromkeys(votes), key=votes.count)


def first_rows(source: SourceConfig) -> list[Row]:
    """The first rows of a source that are rows at all."""
    return [row for row in islice(read_rows(source), LOOKED_AT * 5) if not isinstance(row, BrokenLine)][:LOOKED_AT]


def kinds_of(source: SourceConfig) -> list[str]:
    """The tables that a source's first rows can become, in the format's order of preference."""
    rows = first_rows(source)
    name = detect(rows, source.path) if source.format == "auto" else source.format
    row = catalogue.look_up(catalogue.FORMATS, name, "format")
    return [kind for kind in row.kinds if any(_parses(row.resolve(), found, kind) for found in rows)]


def _parses(parse: Callable[[Row, str], list[Row]], row: Row, kind: str) -> bool:
    try:
        return bool(parse(row, kind))
    except (RowError, KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError):
        return False
