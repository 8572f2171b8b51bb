"""Finds the format of a source by its first rows: the one in which most of them can become what is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError, cut
from alignflow.data.sources import oasst, votes
from alignflow.data.sources.base import Row, RowError
from alignflow.data.sources.columns import renamed
from alignflow.data.sources.labels import COLUMNS as LABELS
from alignflow.data.sources.reading import BrokenLine, read_rows
from alignflow.data.sources.transcripts import is_transcript

LOOKED_AT = 20
NEVER_FOUND = frozenset({("text", "demonstrations"), ("text", "prompts")})
"""What a format gives only where the recipe names it: nothing says that a text is a prompt up to its first full stop."""


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_transcript(value: Any) -> bool:
    try:
        return isinstance(value, str) and is_transcript(value)
    except RowError:
        return False


# In the order of how telling the columns are: of two formats that fit as many rows, the first is the format.
SIGNS: Mapping[str, Callable[[Row], bool]] = {
    "oasst": lambda row: oasst.is_tree(row) or oasst.is_message(row),
    "sharegpt": lambda row: _is_list(row.get("conversations", row.get("conversation"))),
    "messages": lambda row: _is_list(row.get("messages")),
    "hh_rlhf": lambda row: "prompt" not in row and _is_transcript(row.get("chosen")),
    "comparison": lambda row: (
        ("instruction" in row and _is_list(row.get("output")))
        or any(
            _is_list(row.get(name)) and bool(row[name]) and isinstance(row[name][0], dict)
            for name in ("responses", "answers", "completions")
        )
    ),
    "votes": votes.is_votes,
    "alpaca": lambda row: "instruction" in row,
    "trl": lambda row: "prompt" in row or {"chosen", "rejected"} <= row.keys(),
    "transcript": lambda row: _is_transcript(row.get("text")),
    "text": lambda row: isinstance(row.get("text"), str) and not oasst.is_message(row),
}


def detect(rows: list[Row], where: str, kind: str | None = None) -> str:
    """The format in which most of some first rows can become rows of the table `kind`; of any table where it is None.

    Where not one row can, it is the format that most rows look like, so that its reasons can be told. Of two formats that
    fit as many rows it is the one that stands first in SIGNS.

    Raises:
        DataError: no format has the rows' columns.
    """
    able: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    for name, fits in SIGNS.items():
        wanted = [each for each in catalogue.FORMATS[name].kinds if each == (kind or each)]
        fitting = [row for row in rows if fits(row)]
        usable = [each for each in wanted if (name, each) not in NEVER_FOUND]
        able[name] = sum(any(_parses(name, row, each) for each in usable) for row in _assembled(name, fitting))
        alike[name] = len(fitting)
    for counted in (able, alike):
        if best := max(counted.values()):
            return _named(next(name for name in SIGNS if counted[name] == best), kind, bool(able[name]), where)
    columns = sorted({str(name) for row in rows for name in row})
    raise DataError(
        f"no known format has the columns {cut(', '.join(columns[:12])) or '(none)'}",
        where=where,
        do="name the format in the recipe (`alignflow formats` lists them), or say with `columns: {prompt: NAME, ...}` which column is what",
    )


def _named(name: str, kind: str | None, is_able: bool, where: str) -> str:
    if not is_able and (name, kind) in NEVER_FOUND:
        raise DataError(
            f"plain text, and nothing in it says what of it the {kind} are",
            where=where,
            do="write `format: text` for the first sentence as the prompt and the rest as the answer, or use it as `general`",
        )
    return name


def assembled(name: str, rows: list[tuple[int, Row]], columns: Mapping[str, str]) -> list[tuple[int, Row]]:
    """Numbered rows as the parser of a format takes them: for `oasst`, the messages of a tree in one row; for `votes`, all votes on
    the same two answers. The names of `columns` are those of the source."""
    if name == "votes":
        return votes.gathered(rows, columns)
    return oasst.gathered(rows) if name == "oasst" else rows


def _assembled(name: str, rows: list[Row]) -> list[Row]:
    """Rows that have the standard names already; votes are told from the first rows one by one."""
    return [row for _, row in assembled(name, list(enumerate(rows)), {})] if name == "oasst" else rows


def first_rows(source: SourceConfig) -> list[Row]:
    """The first rows of a source that are rows at all, under the names that the source's `columns` gives them."""
    raw = [row for row in islice(read_rows(source), LOOKED_AT * 5) if not isinstance(row, BrokenLine)][:LOOKED_AT]
    return with_names(raw, source)


def with_names(rows: list[Row], source: SourceConfig) -> list[Row]:
    """Rows under the names that the source's `columns` gives them, without those that lack one.

    Raises:
        DataError: no row has them all, or all hold their lists as Python writes them.
    """
    found = []
    reasons = set()
    for row in rows:
        try:
            found.append(renamed(row, source.columns))
        except RowError as error:
            reasons.add(error.reason)
    if rows and not found and reasons == {"python_and_not_json"}:
        raise DataError(
            "its lists are written as Python writes them, and not as JSON",
            where=source.path,
            do="write them with json.dumps: pandas writes the lists of a column in this way",
        )
    if rows and not found:
        columns = sorted({str(name) for row in rows for name in row})
        raise DataError(
            f"no row has all of the columns {cut(', '.join(source.columns.values()))}",
            where=source.path,
            do=f"its columns are {cut(', '.join(columns[:12]))}; write nested ones with dots",
        )
    return found


def kinds_of(source: SourceConfig) -> list[str]:
    """The tables that a source's first rows can become: what their columns are for comes first, though not one of them can be used."""
    rows = first_rows(source)
    if source.format == "auto":
        detect(rows, source.path)  # refuses columns that no format has
        names = [name for name, fits in SIGNS.items() if any(fits(row) for row in rows)]
    else:
        names = [source.format]
    kinds = [(name, kind) for name in names for kind in catalogue.look_up(catalogue.FORMATS, name, "format").kinds]
    found = [
        kind
        for name, kind in kinds
        if (source.format != "auto" or (name, kind) not in NEVER_FOUND)
        and any(_parses(name, row, kind) for row in _assembled(name, rows))
    ]
    declared = [kind for kind in (declared_kind(rows),) if kind in {each for _, each in kinds}]
    return list(dict.fromkeys([*declared, *found]))


def declared_kind(rows: list[Row]) -> str:
    """The table that columns are made for: pairs for preferences, an answer with a label for unpaired rows; empty for any other columns."""
    names = {name for row in rows for name in row}
    if {"chosen", "rejected"} <= names:
        return "preferences"
    return "unpaired" if set(LABELS) & names and {"completion", "messages"} & names else ""


def _parses(name: str, row: Row, kind: str) -> bool:
    try:
        return bool(catalogue.FORMATS[name].resolve()(row, kind))
    except (RowError, KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError):
        return False
