"""`alignflow compare`: what differs between two runs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.compare import Comparison, MetricPair, StepPair, compare
from alignflow.tasks.store.pins import using

Run = Annotated[str, typer.Argument(metavar="RUN", help=f"A run, or any artifact: {NAMES}, or a path.")]
BOTH = "[dim]the same[/dim]"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_runs)


def compare_runs(
    first: Run,
    second: Run,
    samples: Annotated[
        int, typer.Option(min=0, max=100, metavar="N", help="Show at most this many answers side by side.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what differs between two runs: settings, data, metrics, and answers to the same prompts."""
    store = ArtifactStore(for_reading=True)
    runs = store.resolve(first), store.resolve(second)
    with using(store, *(run.key for run in runs)):
        found = compare(*runs, store, samples)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    console = Console()
    console.print(
        f"first:  {escape(str(found.first))}\nsecond: {escape(str(found.second))}", highlight=False, soft_wrap=True
    )
    for table in (steps_table(found), data_table(found), metrics_table(found), answers_table(found)):
        if table.row_count:
            console.print(table)


def steps_table(found: Comparison) -> Table:
    """One line per step: whether it left the same bytes, and what differs in what it was computed from."""
    table = Table("step", "result", "what differs")
    for step in found.steps:
        table.add_row(escape(step.name), _result(step), escape(plain("\n".join(_differs(step)))))
    return table


def _result(step: StepPair) -> str:
    if not (step.first and step.second):
        return "only in the first" if step.first else "only in the second"
    if step.first == step.second:
        return BOTH
    return "the same bytes" if step.same else "[yellow]differs[/yellow]"


def _differs(step: StepPair) -> list[str]:
    lines = [*step.changes, *(f"beside the key: {change}" for change in step.beside)]
    return [*lines, f"takes another {', '.join(step.inputs)}"] if step.inputs else lines


def data_table(found: Comparison) -> Table:
    """Rows of each table that differs, by their ids."""
    table = Table(
        "step",
        "table",
        "first",
        "second",
        "in both",
        "only first",
        "only second",
        title="data, in rows",
        title_justify="left",
    )
    for step in found.steps:
        for rows in step.tables:
            counts = (rows.first, rows.second, rows.common, rows.first - rows.common, rows.second - rows.common)
            table.add_row(escape(step.name), escape(rows.name), *map(str, counts))
    return table


def metrics_table(found: Comparison) -> Table:
    """Metrics of steps that differ, with their intervals."""
    table = Table("step", "metric", "first", "second", "second - first", title="metrics", title_justify="left")
    for step in found.steps:
        for metric in step.metrics:
            table.add_row(escape(step.name), escape(metric.name), *_cells(metric))
    return table


def _cells(metric: MetricPair) -> tuple[str, str, str]:
    difference = "" if metric.difference is None else f"{metric.difference:+.4g}"
    return _value(metric.first, metric.first_interval), _value(metric.second, metric.second_interval), difference


def _value(value: float | None, interval: tuple[float, float] | None) -> str:
    shown = "–" if value is None else f"{value:.4g}"
    return f"{shown} ({interval[0]:.3g} to {interval[1]:.3g})" if interval else shown


def answers_table(found: Comparison) -> Table:
    """Answers to the same prompts; what models wrote is text and neither markup nor commands to the terminal."""
    table = Table(
        "prompt", "first", "second", title="answers to the same prompts", title_justify="left", show_lines=True
    )
    for answer in found.answers:
        table.add_row(*(escape(plain(text)) for text in (answer.prompt, answer.first, answer.second)))
    return table


def plain(text: str) -> str:
    """The text with every character that a terminal might act on replaced."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
