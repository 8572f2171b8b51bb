"""`alignflow runs`: a table of all runs of the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from alignflow.cli.fitting import fits, short_time, wide_console
from alignflow.cli.terminal import Console
from alignflow.data.catalogue import suggest
from alignflow.data.errors import UserError
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.dashboard import write_dashboard
from alignflow.tasks.store.folded_runs import ShownRun, folded
from alignflow.tasks.store.run_cells import (
    DASH,
    formatted,
    name_text,
    seconds_text,
    settings_text,
    size_text,
    win_rate_text,
)
from alignflow.tasks.store.run_rows import RunRow, run_rows

SORTS: dict[str, Callable[[RunRow], Any]] = {
    "date": lambda row: row.date,
    "name": lambda row: row.name,
    "state": lambda row: row.state,
    "method": lambda row: row.method,
    "settings": lambda row: settings_text(row.settings, row.smoke) or None,
    "win_rate": lambda row: row.win_rate,
    "kl": lambda row: row.kl,
    "reward_accuracy": lambda row: row.reward_accuracy,
    "seconds": lambda row: row.seconds,
    "size": lambda row: row.size,
}
"""Columns to sort by: words from A to Z, dates and figures in descending order, unknown values last."""
WORDS = ("name", "state", "method", "settings")
HEADINGS = (
    "run",
    "date (UTC)",
    "state",
    "method",
    "changed settings",
    "win rate",
    "KL",
    "reward acc.",
    "seconds",
    "size",
)
TIGHT = ("run", "method", "date", "state", "win rate", "KL", "reward", "seconds", "size")
DATE_AND_STATE, LEFT_OUT, SHORTEST_NAME = 3, (8, 3, 7, 6), 6
"""Columns of TIGHT: the last text column; columns to leave out, one after the other; the minimum width of the first two."""


FOLDED = "+n cached: n earlier runs found the same artifacts for the same recipe and settings; --json shows each"
_Line = TypeVar("_Line")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("runs")(list_runs)


def list_runs(
    sort: Annotated[
        str,
        typer.Option(metavar="COLUMN", help=f"{', '.join(SORTS)}: words from A to Z, figures in descending order."),
    ] = "date",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every record as JSON, unfolded; null means not measured.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PATH", help="Write a page with all runs and a leaderboard to this file."),
    ] = None,
) -> None:
    """Show all runs of the store, newest first: changes to the recipe, win rate, KL, reward model, seconds and size."""
    if sort not in SORTS:
        raise UserError(f"no column {sort!r}", where="--sort", do=suggest(sort, SORTS))
    store = ArtifactStore(for_reading=True)
    if html is not None:
        write_dashboard(store, html)
        Console(stderr=as_json).print(f"wrote {html}", markup=False, highlight=False, soft_wrap=True)
        if not as_json:
            return
    rows = run_rows(store)
    if as_json:
        found = sorted_rows(rows, sort, lambda row: row)
        typer.echo(json.dumps([row.model_dump() for row in found], indent=1, ensure_ascii=False))
        return
    console = Console()
    if not rows:
        console.print(
            f"no runs in {escape(str(store.root))} yet: `alignflow run RECIPE` makes one",
            highlight=False,
            soft_wrap=True,
        )
        return
    console, lines = wide_console(console), sorted_rows(folded(rows), sort, lambda line: line.row)
    wide = wide_table(lines)
    console.print(wide if fits(wide, console) else Group(*tight_lines(lines, console.width)))
    if any(line.cached for line in lines):
        console.print(FOLDED, highlight=False, soft_wrap=True)


def sorted_rows(found: Sequence[_Line], column: str, row_of: Callable[[_Line], RunRow]) -> list[_Line]:
    """Sort lines by a column of `SORTS`: lines without a value come last, and ties keep their order."""

    def value(line: _Line) -> Any:
        return SORTS[column](row_of(line))

    known = [line for line in found if value(line) is not None]
    return [*sorted(known, key=value, reverse=column not in WORDS), *(line for line in found if value(line) is None)]


def wide_table(lines: Sequence[ShownRun]) -> Table:
    """One line for each run."""
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for column in table.columns[5:]:
        column.justify = "right"
    for line in lines:
        row = line.row
        start = (name_text(row.name, line.cached), short_time(row.date, year=True), row.state, row.method or DASH)
        table.add_row(*map(escape, (*start, _changes(line) or DASH, *_figures(row))))
    return table


def tight_lines(lines: Sequence[ShownRun], width: int) -> Iterator[RenderableType]:
    """The same for a narrow terminal: changes are on the line below the run, dates have no year, and long names wrap.

    If that is still too wide, columns are left out, and the last line says which.
    """
    cells = [
        TIGHT,
        *(
            (
                line.row.name or DASH,
                line.row.method or DASH,
                short_time(line.row.date),
                line.row.state,
                *_figures(line.row),
            )
            for line in lines
        ),
    ]
    needed = [max(cell_len(texts[column]) for texts in cells) for column in range(len(TIGHT))]
    shown = list(range(len(TIGHT)))
    for column in LEFT_OUT:
        if sum(needed[at] + 1 for at in shown[2:]) + 2 * SHORTEST_NAME > width:
            shown.remove(column)
    room = width - sum(needed[at] + 1 for at in shown[2:]) - 2
    needed[1] = min(needed[1], max(SHORTEST_NAME, room - needed[0], room // 2))
    needed[0] = min(needed[0], max(SHORTEST_NAME, room - needed[1]))
    for number, texts in enumerate(cells):
        grid = Table.grid(padding=(0, 1, 0, 0))
        for at in shown:
            grid.add_column(width=needed[at], justify="right" if at > DATE_AND_STATE else "left", overflow="fold")
        grid.add_row(*(escape(texts[at]) for at in shown), style="" if number else "bold")
        yield grid
        if number and (changes := _below(lines[number - 1])):
            yield Padding(Text(changes, overflow="fold"), (0, 0, 0, 2))
    if left_out := [TIGHT[at] for at in range(len(TIGHT)) if at not in shown]:
        yield Text(f"not shown in {width} columns: {', '.join(left_out)} (--json shows everything)")


def _changes(line: ShownRun) -> str:
    return settings_text(line.row.settings, line.row.smoke)


def _below(line: ShownRun) -> str:
    """The line below a run on a narrow terminal: its changes, and how many cached runs are folded into it."""
    return ", ".join(text for text in (_changes(line), f"+{line.cached} cached" if line.cached else "") if text)


def _figures(row: RunRow) -> tuple[str, ...]:
    return (
        win_rate_text(row.win_rate, row.win_rate_low, row.win_rate_high),
        formatted(row.kl),
        formatted(row.reward_accuracy),
        seconds_text(row.seconds),
        DASH if row.size is None else size_text(row.size),
    )
