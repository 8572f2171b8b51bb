"""`alignflow runs`: all runs of the store beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from alignflow.cli.collected import megabytes
from alignflow.cli.fitting import DASH, fits, short_time, wide_console
from alignflow.cli.terminal import Console
from alignflow.data.catalogue import suggest
from alignflow.data.errors import UserError
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.run_rows import RunRow, run_rows

SORTS: dict[str, Callable[[RunRow], Any]] = {
    "date": lambda row: row.date,
    "name": lambda row: row.name,
    "state": lambda row: row.state,
    "method": lambda row: row.method,
    "settings": lambda row: settings_text(row) or None,
    "win_rate": lambda row: row.win_rate,
    "kl": lambda row: row.kl,
    "reward_accuracy": lambda row: row.reward_accuracy,
    "seconds": lambda row: row.seconds,
    "size": lambda row: row.size,
}
"""Columns to sort by: words from A to Z, dates and figures from the newest or largest down, and what is not known last."""
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
"""Columns of TIGHT: the last that is text; those that are left out, one after the other; the least width of the first two."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("runs")(list_runs)


def list_runs(
    sort: Annotated[
        str,
        typer.Option(metavar="COLUMN", help=f"{', '.join(SORTS)}: words from A to Z, figures from the largest down."),
    ] = "date",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON; null means not measured.")] = False,
) -> None:
    """Show all runs of the store, newest first: what was changed in the recipe, win rate, KL, reward model, seconds and size."""
    if sort not in SORTS:
        raise UserError(f"no column {sort!r}", where="--sort", do=suggest(sort, SORTS))
    store = ArtifactStore(for_reading=True)
    rows = sorted_rows(run_rows(store), sort)
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows], indent=1, ensure_ascii=False))
        return
    console = Console()
    if not rows:
        console.print(
            f"no runs in {escape(str(store.root))} yet: `alignflow run RECIPE` makes one",
            highlight=False,
            soft_wrap=True,
        )
        return
    console = wide_console(console)
    wide = wide_table(rows)
    console.print(wide if fits(wide, console) else Group(*tight_lines(rows, console.width)))


def sorted_rows(rows: Sequence[RunRow], column: str) -> list[RunRow]:
    """The rows by a column of `SORTS`; those that have nothing in it come last, and equal ones stay as they were."""
    value = SORTS[column]
    known = [row for row in rows if value(row) is not None]
    return [*sorted(known, key=value, reverse=column not in WORDS), *(row for row in rows if value(row) is None)]


def wide_table(rows: Sequence[RunRow]) -> Table:
    """One line for each run."""
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for column in table.columns[5:]:
        column.justify = "right"
    for row in rows:
        start = (row.name or DASH, short_time(row.date, year=True), row.state, row.method or DASH)
        table.add_row(*map(escape, (*start, settings_text(row) or DASH, *_figures(row))))
    return table


def tight_lines(rows: Sequence[RunRow], width: int) -> Iterator[RenderableType]:
    """The same for a narrow terminal: what a run changed stands below it, dates have no year, and long names go on below.

    Where that is still too wide, columns are left out, and the last line says which.
    """
    cells = [
        TIGHT,
        *((row.name or DASH, row.method or DASH, short_time(row.date), row.state, *_figures(row)) for row in rows),
    ]
    needed = [max(cell_len(line[column]) for line in cells) for column in range(len(TIGHT))]
    shown = list(range(len(TIGHT)))
    for column in LEFT_OUT:
        if sum(needed[at] + 1 for at in shown[2:]) + 2 * SHORTEST_NAME > width:
            shown.remove(column)
    room = width - sum(needed[at] + 1 for at in shown[2:]) - 2
    needed[1] = min(needed[1], max(SHORTEST_NAME, room - needed[0], room // 2))
    needed[0] = min(needed[0], max(SHORTEST_NAME, room - needed[1]))
    for number, line in enumerate(cells):
        grid = Table.grid(padding=(0, 1, 0, 0))
        for at in shown:
            grid.add_column(width=needed[at], justify="right" if at > DATE_AND_STATE else "left", overflow="fold")
        grid.add_row(*(escape(line[at]) for at in shown), style="" if number else "bold")
        yield grid
        if number and (changes := settings_text(rows[number - 1])):
            yield Padding(Text(changes, overflow="fold"), (0, 0, 0, 2))
    if left_out := [TIGHT[at] for at in range(len(TIGHT)) if at not in shown]:
        yield Text(f"not shown in {width} columns: {', '.join(left_out)} (--json shows everything)")


def settings_text(row: RunRow) -> str:
    """What a run changed, in one line; empty where it changed nothing, or that is not known."""
    return ", ".join(_changes(row))


def _changes(row: RunRow) -> list[str]:
    smoke = ["--smoke"] if row.smoke else []
    return smoke + [f"{place}={_value(value)}" for place, value in (row.settings or {}).items()]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figures(row: RunRow) -> tuple[str, ...]:
    return (
        _win_rate(row),
        _number(row.kl, ".2f"),
        _number(row.reward_accuracy, ".2f"),
        _number(row.seconds, ",.0f" if (row.seconds or 0) >= 10 else ".1f"),
        DASH if row.size is None else megabytes(row.size),
    )


def _win_rate(row: RunRow) -> str:
    if row.win_rate is None:
        return DASH
    ends = row.win_rate_low, row.win_rate_high
    interval = "" if None in ends else f" [{ends[0]:.0%}, {ends[1]:.0%}]".replace("%", "")
    return f"{row.win_rate:.0%}{interval}"


def _number(value: float | None, shape: str) -> str:
    return DASH if value is None else format(value, shape)
