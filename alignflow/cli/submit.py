"""`alignflow submit`: sends a recipe to the store's server as a run."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from alignflow.cli.run import RecipePath, Settings, Smoke, load
from alignflow.cli.terminal import Console
from alignflow.cli.waiting import SHORT_ID
from alignflow.data.artifacts import file_digest
from alignflow.data.configs.loading import parse_setting
from alignflow.data.errors import ApprovalNeededError, StageError, UserError
from alignflow.flows.requests import NAMED, recipe_tag
from alignflow.flows.run_names import run_title
from alignflow.server import runs
from alignflow.server.api import Api
from alignflow.server.discovery import server_api
from alignflow.server.layout import Home
from alignflow.server.runs import FlowRun
from alignflow.server.status import status
from alignflow.tasks.store.artifact_store import ArtifactStore

PIPELINE = "pipeline"
LOOK_EVERY_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(submit)


def submit(
    recipe: RecipePath,
    settings: Settings = None,
    smoke: Smoke = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the run. Without it, the recipe's name and the changes by --set."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the run's log until it ends or waits for a person.")
    ] = False,
) -> None:
    """Send a recipe to the server of the store; its worker runs it. `alignflow up` starts both. Prints name, id and address of the run."""
    if name is not None and not name.strip():
        raise UserError("the name is empty", where="--name", do="leave --name out to use the recipe's name")
    loaded = load(recipe, settings, smoke)
    path = recipe.absolute()
    home = Home(ArtifactStore(for_reading=True).root)
    api = server_api(home)
    parameters = {"recipe": str(path), "more": list(settings or ()), "smoke": smoke}
    title = name or run_title(loaded.name, PIPELINE, [parse_setting(text) for text in settings or ()])
    tags = [recipe_tag(file_digest(path)), *([NAMED] if name else [])]
    run, console = runs.submit(api, PIPELINE, parameters, title, tags), Console()
    for label, value in (("name", run.name), ("id", run.id), ("page", run.url)):
        console.print(f"{label}  {value}", markup=False, highlight=False, soft_wrap=True)
    for warning in dead_workers(home):
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if watch:
        _watch(api, run, console)


def dead_workers(home: Home) -> list[str]:
    """One line for each unhealthy worker of this machine's server: a run of its pool would wait silently."""
    found = status(home)
    if not found.server.healthy:  # the server is on another machine, and so are its workers
        return []
    return [
        f"{worker.name}: {worker.problem}; a run of its pool waits until `alignflow up` has started the worker again"
        for worker in found.workers
        if not worker.healthy
    ]


def _watch(api: Api, run: FlowRun, console: Console) -> None:
    """Print a run's log until it ends or waits for a person; raises the error with which it ended."""
    log, state = runs.RunLog(api, run.id), ""

    def show() -> None:
        for line in log.new_lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        while True:
            run = runs.look(api, run.id)
            show()
            over = run.state in runs.ENDED or run.state == runs.PAUSED
            if over:  # its last lines are still on their way
                time.sleep(LOOK_EVERY_S)
                show()
            if run.state != state:
                state = run.state
                console.print(f"{run.name}: {state.lower()}", markup=False, highlight=False, soft_wrap=True)
            if over:
                break
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        console.print(f"the run goes on: {run.url}", markup=False, highlight=False, soft_wrap=True)
        raise
    if state == runs.PAUSED and not run.asks:
        raise ApprovalNeededError(
            "somebody paused the run by hand", where=run.name, do=f"resume it on its page: {run.url}"
        )
    if state == runs.PAUSED:
        raise ApprovalNeededError(
            "the run waits for a person",
            where=run.name,
            do=f"`alignflow status` shows its question; `alignflow answer {run.id[:SHORT_ID]} yes` lets it continue",
        )
    if state != "COMPLETED":
        raise StageError(run.message or f"the run ended as {state.lower()}", where=run.name, do=f"its log: {run.url}")
