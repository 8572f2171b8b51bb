"""`alignflow run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from alignflow.cli.display import final_table, gate_line, loading_lines, result_paths, tensorboard_lines
from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import ShownRun, refuse_far_workers
from alignflow.cli.terminal import Console
from alignflow.data.configs.loading import load_recipe, parse_setting
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.report.metrics import kept_lines
from alignflow.flows.calls import Step
from alignflow.flows.calls import plan as plan_steps
from alignflow.flows.capacity import Estimator, refuse_too_large
from alignflow.flows.gates import check_approved
from alignflow.flows.graph import nodes
from alignflow.flows.pipeline import Outcome, Selection, refuse_missing, selected, walk
from alignflow.flows.requests import RunRequest
from alignflow.flows.steps import Node
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.trackers.base import check_tracker

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a value of the recipe: align.options.beta=0.2."),
]
Smoke = Annotated[bool, typer.Option("--smoke", help="Run every stage on 32 rows and 4 steps, under separate keys.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(  # noqa: PLR0913 (one argument per option of the command)
    recipe: RecipePath,
    settings: Settings = None,
    smoke: Smoke = False,
    only: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Run only this stage. Its inputs must be in the store.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Run this stage and the stages that it needs.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and all later stages again.")
    ] = None,
    force: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Run this stage again, even if the store has its result.")
    ] = None,
    approve: Annotated[
        list[str] | None, typer.Option(metavar="GATE", help="Ignore this gate's result and go on.")
    ] = None,
    even_if_too_large: Annotated[
        bool, typer.Option("--even-if-too-large", help="Run even if a stage cannot fit according to the estimate.")
    ] = False,
) -> None:
    """Run a recipe. Stages whose results are in the store are not run again."""
    loaded = load(recipe, settings, smoke)
    check_approved(loaded, approve or ())
    check_tracker(loaded.tracking)
    store = ArtifactStore()
    server = configure_prefect(store.root)
    if not server:
        refuse_far_workers(loaded)
    console = Console()
    console.print(
        f"[bold]{escape(loaded.name)}[/bold]  store {escape(str(store.root))}", highlight=False, soft_wrap=True
    )
    selection = Selection(only=only, until=until, start=start, force=tuple(force or ()), approve=tuple(approve or ()))
    refuse_missing(loaded, selection, store, "--only")
    chosen, forced = selected(nodes(loaded), selection)
    steps = plan_steps(loaded, store)
    found = all_found(steps, chosen, forced)
    if not even_if_too_large and not found:
        refuse_too_large(
            Estimator(loaded, store).needs(steps, frozenset(forced)), frozenset(node.name for node in chosen)
        )
    request = RunRequest(str(recipe.absolute()), tuple(parse_setting(text) for text in settings or ()), smoke)
    shown = ShownRun("pipeline", loaded.name, store, console, request)
    outcomes = shown.do(lambda narrator: walk(loaded, selection, store, narrator, request), found, server)
    _print_results(shown, outcomes)


def all_found(steps: Sequence[Step], chosen: Sequence[Node], forced: set[str]) -> bool:
    """Whether the store has every chosen step and none is forced."""
    names = {node.name for node in chosen}
    return not names & forced and all(step.state == "cached" for step in steps if step.name in names)


def _print_results(shown: ShownRun, outcomes: list[Outcome]) -> None:
    console, store, display = shown.console, shown.store, shown.display
    console.print(final_table(outcomes, store))
    for line in (line for outcome in outcomes for line in kept_lines(store.manifest(outcome.ref.key))):
        console.print(escape(line), highlight=False, soft_wrap=True)
    for warning in [
        *_warnings(outcomes, store),
        *(gate_line(record) for record in display.verdicts if record.verdict in ("warned", "approved")),
    ]:
        console.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    if ended := next((record for record in display.verdicts if record.verdict == "ended"), None):
        console.print(f"a gate ended the run: {escape(gate_line(ended))}", highlight=False, soft_wrap=True)
    paths = result_paths(outcomes, store)
    lines = [f"{name}: {path}" for name, path in paths.items()]
    for line in (*lines, *tensorboard_lines(outcomes, store), *loading_lines(paths)):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _warnings(outcomes: list[Outcome], store: ArtifactStore) -> list[str]:
    return [f"{outcome.name}: {text}" for outcome in outcomes for text in store.manifest(outcome.ref.key).warnings]


def load(path: Path, settings: list[str] | None, smoke: bool) -> Recipe:
    """The recipe of a command with its settings, reduced for --smoke."""
    recipe = load_recipe(path, settings or ())
    return smoke_recipe(recipe) if smoke else recipe
