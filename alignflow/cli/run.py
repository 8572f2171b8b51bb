"""`alignflow run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignflow.cli.settings import configure_prefect, on_a_server
from alignflow.cli.terminal import Console
from alignflow.data.configs.loading import load_recipe, parse_setting
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.flows.calls import plan as plan_steps
from alignflow.flows.gates import check_approved
from alignflow.flows.graph import nodes
from alignflow.flows.needs import Estimator, refuse_too_large
from alignflow.flows.requests import Request
from alignflow.tasks.store import ArtifactStore

if TYPE_CHECKING:
    from alignflow.cli.display import Display
    from alignflow.flows.pipeline import Narrator, Outcome

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a value of the recipe: align.beta=0.2.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Every stage on 32 rows and 4 steps, under keys of its own.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    recipe: RecipePath, settings: Settings = None, smoke: Smoke = False,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Just this stage; what it takes must be in the store.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="This stage and what it needs.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="This stage and all after it again.")] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="This stage again, whatever the store has.")] = None,
    approve: Annotated[list[str] | None, typer.Option(metavar="GATE", help="Go on past this gate, whatever it measures.")] = None,
    even_if_too_large: Annotated[bool, typer.Option("--even-if-too-large", help="Run although a stage cannot fit by the estimate.")] = False,
) -> None:  # fmt: skip
    """Run a recipe: what is in the store already is not done again."""
    loaded = load(recipe, settings, smoke)
    check_approved(loaded, approve or ())
    store = ArtifactStore()
    server = configure_prefect(store.root)
    console = Console()
    console.print(f"[bold]{loaded.name}[/bold]  store {escape(str(store.root))}\n{escape(server)}", highlight=False, soft_wrap=True)
    from alignflow.cli.display import Display, final_table, gate_line, result_paths
    from alignflow.flows.pipeline import Selection, refuse_missing, selected, walk

    selection = Selection(only=only, until=until, start=start, force=tuple(force or ()), approve=tuple(approve or ()))
    refuse_missing(loaded, selection, store, "--only")
    if not even_if_too_large:
        chosen, forced = selected(nodes(loaded), selection)
        needs = Estimator(loaded, store).needs(plan_steps(loaded, store), frozenset(forced))
        refuse_too_large(needs, frozenset(node.name for node in chosen))
    display = Display(console, 0)
    request = Request(str(recipe.absolute()), tuple(parse_setting(text) for text in settings or ()), smoke)
    outcomes = shown_run("pipeline", loaded.name, display, store, lambda narrator: walk(loaded, selection, store, narrator), request)
    console.print(final_table(outcomes, store))
    for warning in [
        *_warnings(outcomes, store),
        *(gate_line(record) for record in display.verdicts if record.verdict in ("warned", "approved")),
    ]:
        console.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    if ended := next((record for record in display.verdicts if record.verdict == "ended"), None):
        console.print(f"ended there by a gate: {escape(gate_line(ended))}", highlight=False, soft_wrap=True)
    for name, path in result_paths(outcomes, store).items():
        console.print(f"{name}: {escape(str(path))}", highlight=False, soft_wrap=True)


def shown_run(
    flow_name: str, name: str, display: Display, store: ArtifactStore, work: Callable[[Narrator], list[Outcome]],
    request: Request | None = None,
) -> list[Outcome]:  # fmt: skip
    """Do work inside a flow, shown on the terminal, and on the page of the server where the user named one."""
    from prefect import flow

    from alignflow.flows.pipeline import Narrator
    from alignflow.tasks.launch import listening

    @flow(name=flow_name, flow_run_name=name, persist_result=False)
    def flow_from_the_command_line() -> list[Outcome]:
        if not on_a_server():
            with listening(display.progress):
                return work(Narrator.of(display))
        from alignflow.flows.showing import Story

        with Story(name, store, request) as story:

            def progress(step: str, state: dict[str, Any]) -> None:
                display.progress(step, state)
                story.progress(step, state)

            with listening(progress):
                return work(Narrator.of(display, story))

    try:
        return flow_from_the_command_line()
    finally:
        display.stop()


def _warnings(outcomes: list, store: ArtifactStore) -> list[str]:
    return [f"{outcome.name}: {text}" for outcome in outcomes for text in store.manifest(outcome.ref.key).warnings]


def load(path: Path, settings: list[str] | None, smoke: bool) -> Recipe:
    """The recipe that a command was given, with its settings, in small where asked."""
    recipe = load_recipe(path, settings or ())
    return smoke_recipe(recipe) if smoke else recipe
