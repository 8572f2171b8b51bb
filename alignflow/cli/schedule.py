"""`alignflow schedule`: runs that the server starts by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.markup import escape
from rich.table import Table

from alignflow.cli.settings import configure_prefect, names_a_server
from alignflow.cli.terminal import Console
from alignflow.data.configs.loading import load_recipe, parse_setting
from alignflow.data.errors import UserError
from alignflow.tasks.store.artifact_store import ArtifactStore

commands = typer.Typer(
    no_args_is_help=True,
    help="Schedules of the server, which start runs by themselves: list, add, pause, resume, remove.",
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the schedule, as `alignflow schedule list` shows it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="schedule")


@commands.command("list")
def list_schedules() -> None:
    """Show the schedules on the server."""
    schedules = _schedules()
    table = Table("name", "runs", "when", "", "parameters")
    with schedules.server() as client:
        for scheduled in schedules.listed(client):
            parameters = yaml.safe_dump(dict(scheduled.parameters), default_flow_style=True, width=10**6).strip()
            table.add_row(
                escape(scheduled.slug),
                escape(scheduled.flow),
                escape(scheduled.when),
                "active" if scheduled.active else "paused",
                escape(parameters),
            )
    Console().print(table)


@commands.command()
def add(  # noqa: PLR0913 (one argument per option of the command)
    deployment: Annotated[str, typer.Argument(metavar="FLOW", help="pipeline, sweep, a stage, or rlaif-data.")],
    recipe: Annotated[
        Path | None, typer.Option(metavar="RECIPE", help="The recipe's file, for every flow except rlaif-data.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="CRON", help='A cron line: "0 2 * * *" is every night at two.')
    ] = None,
    every: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="Seconds between runs.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the schedule. Without it, the name of the recipe.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a value of the recipe.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the flow, named as in its form.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of the cron line.")] = "UTC",
) -> None:
    """Run a flow repeatedly. If a run is due while another run of the same recipe is going on, it waits."""
    parameters: dict[str, Any] = dict(parse_setting(text) for text in parameter or ())
    if recipe is not None:
        load_recipe(recipe, settings or ())  # so that a mistake shows now, not at night
        parameters |= {"recipe": str(recipe.absolute())} | ({"more": list(settings)} if settings else {})
    schedules = _schedules()
    slug = name or re.sub(r"[^a-z0-9]+", "-", (recipe.stem if recipe else deployment).lower()).strip("-")
    with schedules.server() as client:
        schedules.add(client, deployment, schedules.rule(cron, every, timezone), parameters, slug)
    Console().print(f"added {escape(str(slug))}: the server makes its first runs within a minute", highlight=False)


@commands.command()
def pause(name: Name) -> None:
    """Pause a schedule: it starts no runs until you resume it."""
    schedules = _schedules()
    with schedules.server() as client:
        schedules.set_active(client, name, False)
    Console().print(f"paused {escape(name)}", highlight=False)


@commands.command()
def resume(name: Name) -> None:
    """Let a paused schedule start runs again."""
    schedules = _schedules()
    with schedules.server() as client:
        schedules.set_active(client, name, True)
    Console().print(f"resumed {escape(name)}: the server makes its next runs within a minute", highlight=False)


@commands.command()
def remove(name: Name) -> None:
    """Remove a schedule. Runs that it started stay."""
    schedules = _schedules()
    with schedules.server() as client:
        schedules.remove(client, name)
    Console().print(f"removed {escape(name)}", highlight=False)


def _schedules() -> Any:
    """The module that talks to the server, after a check that there is one: schedules need a server that keeps running."""
    store = ArtifactStore()
    configure_prefect(store.root)
    if not names_a_server():
        raise UserError(
            "no server is up, and a schedule needs one that keeps running",
            where=str(store.root),
            do="`alignflow up` starts one; or set PREFECT_API_URL to the address of yours",
        )
    from alignflow.flows import schedules

    return schedules
