"""`alignflow sweep`: one recipe under many methods, as one Prefect flow, with a table and a picture of what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.run import RecipePath, Settings
from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import ShownRun, refuse_far_workers
from alignflow.cli.terminal import Console
from alignflow.data import own_module
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.settings import parse_setting
from alignflow.data.errors import AlignflowError, RecipeError
from alignflow.data.report.sweep import COLUMNS, cells, markdown, picture
from alignflow.flows.calls import plan as plan_steps
from alignflow.flows.sweep import Member, Result, members, run_members
from alignflow.tasks.store.artifact_store import ArtifactStore

SHOWN = (0, 2, 3, 4, 5, 7)
"""Columns of the table on the terminal."""
Many = Annotated[
    str,
    typer.Option(
        "--methods",
        metavar="NAMES",
        help="Methods, with commas, a loss of your own as file.py:NAME; empty: all of alignflow that learn from data that is there.",
    ),
]
Rates = Annotated[
    str, typer.Option("--learning-rates", metavar="RATES", help="Learning rates, with commas; empty: the recipe's.")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="METHOD.NAME=VALUE", help="An option of one method: kto.beta=0.2."),
]
Output = Annotated[
    Path, typer.Option("--output", metavar="DIRECTORY", help="Where to write sweep.json, sweep.md and sweep.png.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sweep)


def sweep(
    recipe: RecipePath,
    methods: Many = "",
    learning_rates: Rates = "",
    option: Option = None,
    settings: Settings = None,
    output: Output = Path("sweep"),
) -> None:
    """Run a recipe under many methods and learning rates; what they share runs once, and a rerun goes on where it ended."""
    given = [parse_setting(text) for text in settings or ()]

    def load(changes: Mapping[str, Any]) -> Any:
        return load_recipe(recipe, [*given, *changes.items()])

    base = load({})
    rates = numbers(learning_rates) or ([base.align.learning_rate] if base.align else [])
    folder = recipe.absolute().parent
    names = [own_module.absolute(name, folder) for name in methods.replace(",", " ").split()]
    found = members(load, names, rates, options_of(option or (), folder))
    store = ArtifactStore()
    server = configure_prefect(store.root)
    if not server:
        refuse_far_workers(base)
    console, results = Console(), list[Result]()
    console.print(
        f"[bold]{escape(base.name)}[/bold]  {len(found)} members  store {escape(str(store.root))}",
        highlight=False,
        soft_wrap=True,
    )

    def done(member: Member, result: Result) -> None:
        results.append(result)
        write(output, base.name, results)
        said = f"[red]failed[/red] {escape(result.error)}" if result.error else escape("  ".join(cells(result)[3:]))
        console.print(
            f"[bold]{escape(member.name)}[/bold]  {len(results)} of {len(found)}  {said}",
            highlight=False,
            soft_wrap=True,
        )

    there = all(is_there(member, store) for member in found)
    shown = ShownRun("sweep", base.name, store, console)
    shown.do(lambda narrator: run_members(found, store, narrator, done), there, server)
    console.print(table_of(results))
    console.print(f"table, figures and picture: {escape(str(output.absolute()))}", highlight=False, soft_wrap=True)
    if all(result.error for result in results):
        raise typer.Exit(1)


def is_there(member: Member, store: ArtifactStore) -> bool:
    """Whether nothing of a member is left to run; of one whose recipe lacks data nothing is, and running it says why."""
    try:
        return all(step.state == "cached" for step in plan_steps(member.recipe, store))
    except AlignflowError:
        return True


def numbers(text: str) -> list[float]:
    """Learning rates, with commas; raises RecipeError."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise RecipeError(
            f"{text!r} is not a list of numbers", where="--learning-rates", do="for example 1e-5,1e-4"
        ) from None


def options_of(texts: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Method -> its options, from METHOD.NAME=VALUE; the files of losses of the user's own start at `folder`. Raises RecipeError."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, _, given = text.partition("=")
        place, colon, named = name.rpartition(":")  # before a colon stands the file or module of a loss
        method, separator, option = named.partition(".")
        if not separator or not option:
            raise RecipeError(
                f"{text!r} is not of the form METHOD.NAME=VALUE", where="--option", do="for example kto.beta=0.2"
            )
        field, value = parse_setting(f"{option}={given}")
        found.setdefault(own_module.absolute(f"{place}{colon}{method}", folder), {})[field] = value
    return found


def table_of(results: Sequence[Result]) -> Table:
    """One line per member, as narrow as a terminal; sweep.md has the rest."""
    table = Table(*(COLUMNS[number] for number in SHOWN))
    for result in results:
        row = cells(result)
        table.add_row(*(escape(row[number].replace("; ", "\n")) for number in SHOWN))
    return table


def write(directory: Path, name: str, results: Sequence[Result]) -> None:
    """Write what is known so far: it is whole after each member."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sweep.json").write_text(
        json.dumps([result.as_json() for result in results], indent=1, sort_keys=True) + "\n"
    )
    (directory / "sweep.md").write_text(markdown(name, results))
    if image := picture(results):
        (directory / "sweep.png").write_bytes(image)
