"""`alignflow compare`: several runs beside each other, and what differs between two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.fitting import fits, wide_console
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.errors import UserError
from alignflow.data.report.comparison import ComparedRun, RunsBeside, beside
from alignflow.data.report.comparison_page import measured_text, write_page
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.compare import Comparison, MetricPair, StepPair, compare
from alignflow.tasks.store.compared_runs import compared_runs
from alignflow.tasks.store.pins import using

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN RUN [RUN ...]", help=f"Runs, or any artifacts: {NAMES}, or a path.")
]
BOTH = "[dim]the same[/dim]"
PAGE = Path("comparison.html")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_runs)


def compare_runs(
    runs: Runs,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page with the curves.")] = PAGE,
    samples: Annotated[
        int, typer.Option(min=0, max=100, metavar="N", help="Show at most this many answers of two runs side by side.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and write no page.")] = False,
) -> None:
    """Show metrics, settings and curves of several runs beside each other, as tables and as a page; of two also rows and answers that differ."""
    if len(runs) < 2:
        raise UserError("there is only one run to compare", where="compare", do="name two or more, such as last~1 last")
    store = ArtifactStore(for_reading=True)
    ends = [store.resolve(text) for text in runs]
    with using(store, *(end.key for end in ends)):
        named = compared_runs(store, runs, ends)
        with using(store, *(key for run in named for key in keys_of(run))):
            all_of_them = beside(named)
            pair = compare(ends[0], ends[1], store, samples) if len(ends) == 2 else None
    if as_json:
        both = {**all_of_them.model_dump(mode="json"), **(pair.model_dump(mode="json") if pair else {})}
        typer.echo(json.dumps(both, indent=1, ensure_ascii=False))
        return
    console = Console()
    for name, key in zip(all_of_them.runs, all_of_them.keys, strict=True):
        console.print(f"{escape(plain(name))}: {escape(key)}", highlight=False, soft_wrap=True)
    _print_beside(console, "", headline_rows(all_of_them), all_of_them.runs)
    if pair is None:
        _print_beside(console, "settings that differ", settings_rows(all_of_them), all_of_them.runs)
    for table in (steps_table(pair), data_table(pair), metrics_table(pair), answers_table(pair)) if pair else ():
        if table.row_count:
            console.print(table)
    for note in all_of_them.notes:
        console.print(f"[yellow]note[/yellow] {escape(plain(note))}", highlight=False, soft_wrap=True)
    write_page(output, all_of_them)
    console.print(f"page with the curves: {escape(str(output.absolute()))}", highlight=False, soft_wrap=True)


def keys_of(run: ComparedRun) -> list[str]:
    """The keys of a run's artifacts."""
    return [step.manifest.key for step in run.steps.values() if step.manifest]


Beside = Sequence[tuple[str, str, Sequence[str]]]
"""Rows of several runs beside each other: the step, the metric or setting, and a text for each run."""


def headline_rows(found: RunsBeside) -> Beside:
    """The headline metrics."""
    return [(row.step, row.metric, [measured_text(value) for value in row.runs]) for row in found.metrics]


def settings_rows(found: RunsBeside) -> Beside:
    """The settings that differ."""
    return [(row.step, row.setting, row.runs) for row in found.settings]


def _print_beside(console: Console, title: str, rows: Beside, runs: Sequence[str]) -> None:
    """Print rows in the first form that fits: a column for each run, a line for each run, or a list. No value is cut."""
    if not rows:
        return
    wide = wide_console(console)
    for table in (columns_table(title, rows, runs), lines_table(title, rows, runs)):
        if fits(table, wide):
            wide.print(table)
            return
    for line in listed(title, rows, runs):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def columns_table(title: str, rows: Beside, runs: Sequence[str]) -> Table:
    """A column for each run."""
    heads = (escape(plain(name)) for name in runs)
    table = Table("step", "setting" if title else "metric", *heads, title=title or None, title_justify="left")
    for step, name, texts in rows:
        table.add_row(*(escape(plain(text)) for text in (step, name, *texts)))
    return table


def lines_table(title: str, rows: Beside, runs: Sequence[str]) -> Table:
    """A line for each run."""
    heads = (escape(plain(f"{step} {name}".strip())) for step, name, _ in rows)
    table = Table("run", *heads, title=title or None, title_justify="left")
    for place, run in enumerate(runs):
        table.add_row(*(escape(plain(text)) for text in (run, *(texts[place] for _, _, texts in rows))))
    return table


def listed(title: str, rows: Beside, runs: Sequence[str]) -> Iterator[str]:
    """Each metric or setting, and below it each value with the runs that have it."""
    if title:
        yield f"{title}:"
    for step, name, texts in rows:
        yield plain(f"{step} {name}".strip())
        by_text: dict[str, list[str]] = {}
        for run, text in zip(runs, texts, strict=True):
            by_text.setdefault(text, []).append(run)
        for text, of in by_text.items():
            yield plain(f"  {text}: {', '.join(of) if len(by_text) > 1 else 'all runs'}")


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
