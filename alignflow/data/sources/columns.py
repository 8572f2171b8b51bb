"""Names of columns: those that the recipe maps onto the standard ones, and which of a source's columns its parsers read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from alignflow.data.sources.base import Row, RowError, TwoValues, is_blank
from alignflow.data.sources.conversations import HISTORY, SYSTEM
from alignflow.data.sources.labels import COLUMNS as LABELS
from alignflow.data.sources.meanings import ROW_REASONS, WEIGHTS
from alignflow.data.sources.tool_calls import TOOL_COLUMNS
from alignflow.data.sources.written_lists import LIST_COLUMNS, is_python, opened, unpacked

CARRIED = frozenset({*SYSTEM, *HISTORY, *LABELS, *WEIGHTS, *ROW_REASONS, *TOOL_COLUMNS})
"""Names that change what a row means: beside a mapped value inside of a column they count as columns of the row."""


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with the standard names of `columns` {standard name: path}; what a path names is no longer there under its own name.

    A path is the name of a column, or one inside a column with dots (`data.question`, `turns.0.text`), whose text may be JSON. Columns
    that hold lists or conversations as JSON text hold the lists afterwards. What stands beside
    its value and changes the meaning (CARRIED) becomes a column of the row. Where two places say different things, the column
    holds `TwoValues`, which no reader of a single value takes.

    Raises:
        RowError: `missing_column`: there is nothing at a path; `python_and_not_json`: a column of lists holds one as Python writes it.
    """
    if not columns:
        return _unpacked(row)
    taken = {root_of(row, path) for path in columns.values()}
    found = {name: value for name, value in row.items() if name not in taken and name not in columns}
    for path, value in _siblings(row, columns):
        name = path.rpartition(".")[2]
        if name in CARRIED and name not in columns:
            found[name] = _both(found.get(name), value)
    return _unpacked({**found, **{name: _at(row, path) for name, path in columns.items()}})


def _unpacked(row: Row) -> Row:
    """The row with lists where a column holds one in another form, see `written_lists.unpacked`."""
    for name in LIST_COLUMNS & row.keys():
        if isinstance(row[name], str) and is_python(name, row[name]):
            raise RowError("python_and_not_json")
    changed = {name: value for name, given in row.items() if (value := unpacked(name, given)) is not given}
    return {**row, **changed} if changed else row


def _both(one: Any, other: Any) -> Any:
    if not _is_said(one) or one == other:
        return other
    return TwoValues([*(one if isinstance(one, TwoValues) else [one]), other])


def _is_said(value: Any) -> bool:
    return value is False or not is_blank(value)


def left_behind(row: Row, columns: Mapping[str, str], read: Collection[str]) -> set[str]:
    """What mapped names hide: the columns that they take the place of, and what stands beside a mapped value, as `column.key`.

    Args:
        row: The raw row.
        columns: As `renamed` takes them.
        read: Names of columns that the parser looked at.
    """
    taken = {root_of(row, path) for path in columns.values()}
    hidden = {name for name in columns if name in row and name not in taken and not is_blank(row[name])}
    for path, value in _siblings(row, columns):
        name = path.rpartition(".")[2]
        if not (name in CARRIED and name not in columns and name in read) and not is_blank(value):
            hidden.add(path)
    return hidden


def _siblings(row: Row, columns: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Path and value of what stands beside mapped values inside of columns and is not mapped; items of lists have no path of their own."""
    mapped = {path for path in columns.values() if path not in row}
    inner = {".".join(steps[:size]) for path in mapped for steps in (path.split("."),) for size in range(1, len(steps))}
    for path in sorted(inner):
        try:
            value = opened(_at(row, path))
        except RowError:
            continue
        if isinstance(value, Mapping):
            for key, item in value.items():
                if (place := f"{path}.{key}") not in mapped and place not in inner and _is_said(item):
                    yield place, item
        elif isinstance(value, list) and any(
            f"{path}.{index}" not in mapped and f"{path}.{index}" not in inner and _is_said(item)
            for index, item in enumerate(value)
        ):
            yield f"{path}[]", value


def root_of(row: Row, path: str) -> str:
    """The column that a path starts from: the whole path where a column has that name."""
    return path if path in row else path.partition(".")[0]


def _at(row: Row, path: str) -> Any:
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        value = opened(value)
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise RowError("missing_column")
    return value


class WatchedRow(dict[str, Any]):
    """A row that notes in `read` which of its columns are looked at."""

    __slots__ = ("read",)

    def __init__(self, row: Row, read: set[str]):
        super().__init__(row)
        self.read = read

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a column, noted as read."""
        self.read.add(name)
        return super().get(name, default)
