"""Tables that fit the output: full width in a wide terminal or a file, tighter in a narrow terminal. Nothing is cut off; long cells wrap."""

from __future__ import annotations

import os
from collections.abc import Collection

from rich.table import Table

from alignflow.cli.terminal import Console

UNBOUNDED = 100_000


def wide_console(console: Console) -> Console:
    """The console itself; for a pipe or file of unknown width a very wide one, so that each row is one line."""
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(width=UNBOUNDED)


def fits(table: Table, console: Console) -> bool:
    """Whether each row of a table fits on one line of this console."""
    return console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum <= console.width


def tight(table: Table, kept: Collection[str]) -> Table:
    """A compact table without a frame; columns whose heading is in `kept` do not wrap, the others do."""
    table.box, table.pad_edge, table.padding = None, False, (0, 1, 0, 0)
    for column in table.columns:
        column.no_wrap = column.header in kept
        column.overflow = "fold"
    return table


def short_time(iso: str, year: bool = False) -> str:
    """An ISO time to the minute: `11-30 06:24`, or with the year."""
    return iso[0 if year else 5 : 16].replace("T", " ")
