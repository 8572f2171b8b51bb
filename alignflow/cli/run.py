"""`alignflow run` and `alignflow plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alignflow.cli.settings import configure_prefect
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.errors import UserError
from alignflow.flows.calls import plan as plan_steps
from alignflow.tasks.store import ArtifactStore

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a value of the recipe: align.beta=0.2.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Every stage on 32 rows and 4 steps, under keys of its own.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(plan)


def run(
    recipe: RecipePath, settings: Settings = None, smoke: Smoke = False,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Just this stage; what it takes must be in the store.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="This stage and what it needs.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="This stage and all after it again.")] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="This stage again, whatever the store has.")] = None,
) -> None:  # fmt: skip
    """Run a recipe: what is in the store already is not done again."""
    loaded = _load(recipe, settings, smoke)
    store = ArtifactStore()
    server = configure_prefect(store.root)
    console = Console()
    console.print(f"[bold]{loaded.name}[/bold]  store {store.root}\n{server}", highlight=False, soft_wrap=True)
    from alignflow.cli.display import Display, final_table, result_paths
    from alignflow.flows.pipeline import Narrator, Outcome, Selection, missing_for, walk
    from alignflow.tasks.launch import listening

    selection = Selection(only=only, until=until, start=start, force=tuple(force or ()))
    if only and (missing := missing_for(loaded, only, store)):
        raise UserError(
            f"{only} takes from {', '.join(missing)}, which the store does not have", where="--only", do="run without --only first"
        )
    display = Display(console, 0)

    from prefect import flow

    @flow(name="pipeline", flow_run_name=loaded.name, persist_result=False)
    def pipeline_from_the_command_line() -> list[Outcome]:
        narrator = Narrator(starts=display.starts, ends=display.ends, repairs=display.repairs)
        return walk(loaded, selection, store, narrator)

    try:
        with listening(display.progress):
            outcomes = pipeline_from_the_command_line()
    finally:
        display.stop()
    console.print(final_table(outcomes, store))
    for warning in _warnings(outcomes, store):
        console.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    for name, path in result_paths(outcomes, store).items():
        console.print(f"{name}: {path}", highlight=False, soft_wrap=True)


def _warnings(outcomes: list, store: ArtifactStore) -> list[str]:
    return [f"{outcome.name}: {text}" for outcome in outcomes for text in store.manifest(outcome.ref.key).warnings]


def plan(recipe: RecipePath, settings: Settings = None, smoke: Smoke = False) -> None:
    """What a run would do: run, cached, after another stage, or blocked; and why."""
    loaded = _load(recipe, settings, smoke)
    store = ArtifactStore()
    table = Table("stage", "state", "why")
    steps = plan_steps(loaded, store)
    for step in steps:
        state = f"after {step.why}" if step.state == "after" else step.state
        table.add_row(step.name, state, "" if step.state == "after" else escape(step.why))
    Console().print(table)
    if any(step.state == "blocked" for step in steps):
        raise typer.Exit(2)


def _load(path: Path, settings: list[str] | None, smoke: bool) -> Recipe:
    recipe = load_recipe(path, settings or ())
    return smoke_recipe(recipe) if smoke else recipe
