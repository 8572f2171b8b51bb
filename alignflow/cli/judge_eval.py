"""`alignflow judge-eval`: measures how far a judge agrees with people. Trains and labels nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import ShownRun, refuse_far_workers
from alignflow.cli.terminal import Console
from alignflow.data.configs.loading import parse_setting
from alignflow.data.judging.conclusion import POOR
from alignflow.data.printable import printable
from alignflow.data.report.judge_page import fit_lines, judge_rows
from alignflow.flows.judge_orders import JudgeOrder, check_judge_order, copy_report
from alignflow.flows.pipeline import walk_nodes
from alignflow.tasks.store.artifact_store import ArtifactStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("judge-eval")(judge_eval)


def judge_eval(  # noqa: PLR0913 (one argument per option of the command)
    judge: Annotated[
        str,
        typer.Option(
            metavar="JUDGE",
            help="The judge to measure: a name of `alignflow judges`, path/to/file.py:Class or package.module:Class.",
        ),
    ] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GOLD", help="Human labels: a file, a saved data set, or a Hub id. You can pass it several times."
        ),
    ] = None,
    recorded: Annotated[
        str, typer.Option(metavar="FILE", help="Recorded replies of judges, used instead of asking a judge.")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the judge: model=path/to/model.")
    ] = None,
    generator: Annotated[str, typer.Option(metavar="ENGINE", help="The engine that runs the judge's model.")] = "",
    max_rows: Annotated[
        int | None, typer.Option(help="At most this many prompts of each file, chosen by hash.")
    ] = None,
    family_of_judge: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Family of the judge's model, for self-preference: names in model_a, model_b."
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting: judge_eval.fit_fraction=0.3."),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="DIRECTORY", help="Copy the report there. The directory must be empty or not exist.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print only the report, as JSON.")] = False,
) -> None:
    """Measure a judge on human labels, or on its recorded replies: agreement, biases, calibration, and a verdict in plain words."""
    order = JudgeOrder(
        judge=judge,
        data=tuple(data or ()),
        recorded=recorded,
        options=tuple(parse_setting(text) for text in option or ()),
        generator=generator,
        max_rows=max_rows,
        family=family_of_judge,
        settings=tuple(parse_setting(text) for text in settings or ()),
        out=out,
    )
    store = ArtifactStore()
    checked = check_judge_order(order, store, Path.cwd())
    server, console = configure_prefect(store.root), Console(quiet=as_json)
    if not server:
        refuse_far_workers(checked.recipe)
    console.print(f"[bold]{escape(checked.recipe.name)}[/bold]  store {escape(str(store.root))}", soft_wrap=True)
    shown = ShownRun("judge-eval", checked.recipe.name, store, console)
    outcomes = shown.do(partial(walk_nodes, checked.caller, checked.caller.nodes, set()), checked.found(), server)
    directory = store.directory(next(one.ref.key for one in outcomes if one.name == "judge_eval"))
    content = json.loads((directory / "payload" / "judge_report.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    for report in content["reports"]:
        _show(report, console, short=len(content["reports"]) > 1)
    for line in copy_report(directory, checked.target):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _show(report: dict, console: Console, short: bool) -> None:  # type: ignore[type-arg]
    found = report["conclusion"]
    style = "red" if found["level"] in POOR else "yellow" if found["level"] == "weak" else "bold"
    console.print(
        f"[{style}]{escape(printable(report['judge']))}: {escape(printable(found['text']))}[/{style}]", soft_wrap=True
    )
    if short:
        return
    for note in [*found["notes"], *fit_lines(report)]:
        console.print(f"  {escape(printable(note))}", highlight=False, soft_wrap=True)
    table = Table("figure", "value", "from", "to", "of")
    for row in judge_rows(report):
        table.add_row(*row.values())
    console.print(table)
