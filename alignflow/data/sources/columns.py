"""Names of columns: those that the recipe maps onto the standard ones, and which of a source's columns its parsers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Row, RowError


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with the standard names of `columns` {standard name: path}; what a path names is no longer there under its own name.

    A path is the name of a column, or one inside a column with dots (`data.question`, `turns.0.text`).

    Raises:
        RowError: `missing_column`: there is nothing at a path.
    """
    if not columns:
        return row
    taken = {root_of(row, path) for path in columns.values()}
    return {**{name: value for name, value in row.items() if name not in taken}, **{name: _at(row, path) for name, path in columns.items()}}


def root_of(row: Row, path: str) -> str:
    """The column that a path starts from: the whole path where a column has that name."""
    return path if path in row else path.partition(".")[0]


def _at(row: Row, path: str) -> Any:
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
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
