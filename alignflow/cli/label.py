"""`alignflow label`: makes preference data for your own prompts and model. Trains nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from alignflow.cli.display import final_table
from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import ShownRun, refuse_far_workers
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.configs.loading import parse_setting
from alignflow.data.errors import UserError
from alignflow.flows.pipeline import walk_nodes
from alignflow.flows.preference_data import Order, TableName, check_order
from alignflow.tasks.store.artifact_store import ArtifactStore

Number = int | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(label)


def label(  # noqa: PLR0913 (one argument per option of the command)
    prompts: Annotated[
        str, typer.Option(metavar="PROMPTS", help="Prompts to answer: a file, a saved data set, or a Hub id.")
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help=f"The model that answers: a directory, a Hub id, or a model in the store: {NAMES}."
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            metavar="JUDGE",
            help="The judge that labels: a name of `alignflow judges`, path/to/file.py:Class or package.module:Class.",
        ),
    ] = "rubric",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the judge: constitution=reader.")
    ] = None,
    n: Annotated[Number, typer.Option("--n", help="Answers per prompt.")] = None,
    pairs: Annotated[Number, typer.Option(help="Pairs to keep per prompt, widest margin first.")] = None,
    max_prompts: Annotated[Number, typer.Option(help="At most this many prompts, chosen by hash.")] = None,
    max_new_tokens: Annotated[Number, typer.Option(help="Longest answer, tokens.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting: sample.temperature=0.7.")
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="DIRECTORY", help="Copy the data there. The directory must be empty or not exist.")
    ] = "",
    table: Annotated[
        TableName,
        typer.Option(help="The table to copy: pairs, answers labelled good or bad, or answers with scores."),
    ] = "preferences",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Copy it as JSON lines instead of Parquet.")] = False,
) -> None:
    """Sample answers to prompts, let a judge label them, and report. Earlier results are reused."""
    given = {
        "sample.n": n,
        "label.pairs_per_prompt": pairs,
        "sample.max_prompts": max_prompts,
        "sample.max_new_tokens": max_new_tokens,
    }
    chosen = [(place, value) for place, value in given.items() if value is not None]
    chosen += [parse_setting(text) for text in settings or ()]
    options = tuple(parse_setting(text) for text in option or ())
    if jsonl and not out:
        raise UserError("--jsonl needs a directory to write to", where="--jsonl", do="pass --out DIRECTORY too")
    store = ArtifactStore()
    checked = check_order(Order(prompts, model, judge, options, tuple(chosen), out, table, jsonl), store, Path.cwd())
    server, console = configure_prefect(store.root), Console()
    if not server:
        refuse_far_workers(checked.recipe)
    console.print(
        f"[bold]{escape(checked.recipe.name)}[/bold]  store {escape(str(store.root))}", highlight=False, soft_wrap=True
    )
    shown = ShownRun("rlaif-data", checked.recipe.name, store, console)
    work = partial(walk_nodes, checked.caller, checked.caller.nodes, set(), inputs=checked.inputs)
    outcomes = shown.do(work, checked.found(), server)
    console.print(final_table(outcomes, store))
    for line in checked.deliver(outcomes):
        console.print(escape(line), highlight=False, soft_wrap=True)
