"""What each column of a file became, found by trying: a column is changed, and the places that change with it are its use.

Nothing here knows the formats, so that the answer is what a parser does and not what is said about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from alignflow.data.sources.base import Row, RowError, number

Parse = Callable[[Row], list[Row]]
Way = tuple[str | int, ...]

LOOKED_AT = 8
"""Rows that are tried."""
_TEXTS = 24
"""Texts of one column of a row that are tried."""
_WITH_ROLES = ("messages", "prompt")
_OF_TEXT = (*_WITH_ROLES, "chosen", "rejected", "completion", "completions", "text")
_UNUSABLE = (RowError, KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


@dataclass
class Uses:
    """Columns of a source by what became of them. `messages[].weight` is a key of the items in a column.

    Attributes:
        seen: All columns, also of rows that cannot be used.
        became: Column -> places of the prepared rows that hold its text or its figure, such as `prompt: user`.
        decides: Columns that are read and are in no place: whether a row is kept, or which answer is the better one, hangs on them.
        empty: Columns with nothing in them, in the rows that were looked at.
        unused: Columns and keys that change nothing.
    """

    seen: list[str] = field(default_factory=list)
    became: dict[str, list[str]] = field(default_factory=dict)
    decides: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass
class _Trial:
    """What became of one column in the rows that were tried."""

    places: dict[str, None] = field(default_factory=dict)
    changes: bool = False


def column_uses(rows: Sequence[Row], parse: Parse, unused: Collection[str] = ()) -> Uses:
    """What became of the columns of some raw rows.

    Args:
        rows: Raw rows, of which the first LOOKED_AT that can be used are tried.
        parse: Raw row -> prepared rows; raises RowError, or what Python raises for data of any shape.
        unused: Columns that are known to be unused in the whole source, beside those that the trials find.
    """
    usable = list(islice((row for row in rows if _tried(parse, row)), LOOKED_AT))
    trials: dict[str, _Trial] = {}
    for row in usable:
        _try_row(row, parse, trials)
    uses = Uses(
        list(dict.fromkeys(str(name) for row in rows for name in row)),
        {column: list(trial.places) for column, trial in trials.items() if trial.places},
    )
    for column in dict.fromkeys([*(str(name) for row in usable for name in row), *trials, *unused]):
        if column in uses.became:
            continue
        if column in unused or column in trials and not trials[column].changes:
            uses.unused.append(column)
        elif column not in trials:
            uses.empty.append(column)
        elif "[]." not in column:
            uses.decides.append(column)
    uses.unused = [name for name in uses.unused if name.partition("[].")[0] not in uses.unused or "[]." not in name]
    return uses


def _try_row(row: Row, parse: Parse, trials: dict[str, _Trial]) -> None:
    """Change every column of a row that has something in it, and note in `trials` what comes of it."""
    before = parse(row)
    mark = next(f"inspected{number}" for number in count() if f"inspected{number}" not in repr(row))
    here: dict[str, _Trial] = {}
    for column in (name for name, value in row.items() if not _is_empty(value)):
        trial = here[str(column)] = _Trial()
        for name, changed in _variants(row[column], str(column), mark):
            after = _tried(
                parse,
                {**row, column: changed} if changed is not _ABSENT else {key: row[key] for key in row if key != column},
            )
            for touched in (trial, here.setdefault(name, _Trial())):
                touched.changes |= after != before
            trial.places |= {
                place: None for prepared in after or () for place, value in _places(prepared) if mark in str(value)
            }
            trial.places |= dict.fromkeys(_figure_that_differs(before, after or []))
    explained = {place for trial in here.values() for place in trial.places}
    left = [(place, value) for prepared in before for place, value in _places(prepared) if place not in explained]
    for name, trial in here.items():
        if (
            trial.changes and name in row
        ):  # what breaks when it is marked, such as a prompt that has to be the same in two columns
            trial.places |= {place: None for place, value in left if _holds(row[name], value)}
        known = trials.setdefault(name, _Trial())
        known.places |= trial.places
        known.changes |= trial.changes


def _figure_that_differs(before: list[Row], after: list[Row]) -> list[str]:
    """The one place that differs, where it holds a figure, a flag or checks; no place where a text differs, which may only have been chosen anew."""
    if len(before) != len(after):
        return []
    places = {
        name
        for row, other in zip(before, after, strict=True)
        for name in row.keys() | other.keys()
        if row.get(name) != other.get(name)
    }
    return [*places] if len(places) == 1 and not places & set(_OF_TEXT) else []


_ABSENT = object()


def _variants(value: Any, column: str, mark: str) -> Iterator[tuple[str, Any]]:
    """Other values of a column: without it, with a mark before and behind each text, with another figure; each with the name of what differs."""
    yield column, _ABSENT
    if isinstance(value, bool | int | float):
        yield column, _other(value)
    for way, text in islice(_texts(value), _TEXTS):
        for marked in (f"{mark} {text}", f"{text} {mark}"):
            yield _name(column, way), _replaced(value, way, marked)
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    for key in dict.fromkeys(key for item in items for key, inside in item.items() if not _is_empty(inside)):
        yield (
            _name(column, (0, key)),
            [{name: item[name] for name in item if name != key} if isinstance(item, dict) else item for item in value],
        )
        if any(isinstance(item.get(key), bool | int | float) for item in items):
            yield (
                _name(column, (0, key)),
                [{**item, key: _other(item.get(key))} if isinstance(item, dict) else item for item in value],
            )


def _name(column: str, way: Way) -> str:
    """The name of what lies on a way: the column, or a key of the items in it."""
    return f"{column}[].{way[1]}" if len(way) > 1 and isinstance(way[0], int) else column


def _other(value: Any) -> Any:
    return not value if isinstance(value, bool) else 0 if value else 1


def _tried(parse: Parse, row: Row) -> list[Row] | None:
    try:
        return parse(row)
    except _UNUSABLE:
        return None


def _is_empty(value: Any) -> bool:
    return value is None or (
        isinstance(value, str | list | dict) and not (value.strip() if isinstance(value, str) else value)
    )


def _texts(value: Any, way: Way = ()) -> Iterator[tuple[Way, str]]:
    """Texts anywhere in a value, with the way to each."""
    if isinstance(value, str):
        yield way, value
    elif isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*way, name))


def _replaced(value: Any, way: Way, text: str) -> Any:
    """A copy of a value with another text at the end of a way; what is beside the way is shared."""
    if not way:
        return text
    copied = value.copy()
    copied[way[0]] = _replaced(value[way[0]], way[1:], text)
    return copied


def _places(prepared: Row) -> Iterator[tuple[str, Any]]:
    """The places of a prepared row with what is there; a turn's place has its role where several roles can be."""
    for name, value in prepared.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and "role" in item:
                place = f"{name}: {item['role']}" if name in _WITH_ROLES else name
                for key, inside in item.items():  # keys beside the text, such as tool_calls, are places of their own
                    if key != "role" and inside is not None:
                        yield (place if key == "content" else f"{place} {key}"), inside
            elif item is not None:
                yield name, item


def _holds(raw: Any, prepared: Any) -> bool:
    """Whether a raw column has a prepared text in it, or every text of a prepared list, or a prepared figure or flag as it is."""
    if isinstance(prepared, dict | list):
        return all(
            _holds(raw, text) for way, text in _texts(prepared) if way[-1:] != ("type",)
        )  # some formats write no types
    if isinstance(prepared, str):
        return bool(prepared.strip()) and any(prepared.strip() in text for _, text in _texts(raw))
    if isinstance(raw, dict | list):
        return any(_holds(item, prepared) for item in (raw.values() if isinstance(raw, dict) else raw))
    if str(raw).strip().lower() == str(prepared).lower():
        return True
    with contextlib.suppress(RowError):
        return number(raw) == float(prepared)
    return False
