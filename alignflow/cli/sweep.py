"""`alignflow sweep`: runs one recipe with many methods as one Prefect flow, with a table and a picture of the results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.run import RecipePath, Settings
from alignflow.cli.settings import configure_prefect, on_a_server
from alignflow.cli.shown import ShownRun, refuse_far_workers
from alignflow.cli.terminal import Console
from alignflow.data import catalogue
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.settings import parse_setting
from alignflow.data.errors import AlignflowError, RecipeError
from alignflow.data.own_methods import is_own
from alignflow.data.report.sweep import COLUMNS, by_family, cells, doubts, markdown, picture
from alignflow.flows.calls import plan as plan_steps
from alignflow.flows.means import in_flow
from alignflow.flows.pipeline import Narrator, Outcome, Selection, walk
from alignflow.flows.requests import RunRequest
from alignflow.flows.sweep import Axes, Member, Result, run_members
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.trackers.base import check_tracker

SHOWN = (0, 2, 3, 4, 5, 7)
"""Columns of the table on the terminal."""
Many = Annotated[
    str,
    typer.Option(
        "--methods",
        metavar="NAMES",
        help="Methods, separated by commas; your own loss is file.py:NAME. Without it, all built-in methods for which there is data.",
    ),
]
Rates = Annotated[
    str,
    typer.Option(
        "--learning-rates", metavar="RATES", help="Learning rates, separated by commas. Without it, the recipe's."
    ),
]
Seeds = Annotated[
    str,
    typer.Option(
        "--seeds", metavar="SEEDS", help="Seeds of the alignment, separated by commas. Without it, the recipe's."
    ),
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


def sweep(  # noqa: PLR0913 (one argument per option of the command)
    recipe: RecipePath,
    methods: Many = "",
    learning_rates: Rates = "",
    seeds: Seeds = "",
    option: Option = None,
    settings: Settings = None,
    output: Output = Path("sweep"),
) -> None:
    """Run a recipe with many methods, learning rates and seeds. Shared steps run once, and the next call continues where this one ended."""
    given = [parse_setting(text) for text in settings or ()]

    def load(changes: Mapping[str, Any]) -> Any:
        return load_recipe(recipe, [*given, *changes.items()])

    base = load({})
    check_tracker(base.tracking)
    found = axes_of(methods, learning_rates, seeds, option or ()).members(load, recipe.absolute().parent)
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

    asked = RunRequest(str(recipe.absolute()), tuple(given))
    there = all(is_there(member, store) for member in found)
    shown = ShownRun("sweep", base.name, store, console)

    def work(narrator: Narrator) -> list[Outcome]:
        with pages_of(base.name, len(found)) as told:

            def ended(member: Member, result: Result) -> None:
                done(member, result)
                told(member, result)

            def run(member: Member) -> list[Outcome]:
                return walk(member.recipe, Selection(), store, narrator, asked.changed(member.settings))

            return run_members(found, store, run, ended)

    shown.do(work, there, server)
    console.print(table_of(results))
    for doubt in doubts(results):
        console.print(f"[yellow]warning:[/yellow] {escape(doubt)}", highlight=False, soft_wrap=True)
    console.print(f"table, figures and picture: {escape(str(output.absolute()))}", highlight=False, soft_wrap=True)
    if all(result.error for result in results):
        raise typer.Exit(1)


@contextlib.contextmanager
def pages_of(name: str, planned: int) -> Iterator[Callable[[Member, Result], None]]:
    """A callback for each finished member that updates the pages of the server that the user named; does nothing without one."""
    if not (in_flow() and on_a_server()):
        yield lambda member, result: None
        return
    from alignflow.flows.sweep_pages import SweepPages

    with SweepPages(name, planned) as pages:
        yield pages.done


def axes_of(methods: str, learning_rates: str, seeds: str, options: Sequence[str]) -> Axes:
    """Parse the command line's options; raises RecipeError."""
    parts = [part.strip() for part in methods.split(",")]
    named = [name for part in parts for name in ([part] if is_own(part) else part.split())]  # a path may have spaces
    own = tuple(name for name in named if is_own(name))
    known = tuple(name for name in named if name not in own)
    for name in known:
        catalogue.look_up(catalogue.METHODS, name, "--methods")
    return Axes.model_validate(
        {
            "methods": known,
            "own": own,
            "learning_rates": numbers(learning_rates, "--learning-rates", float),
            "seeds": numbers(seeds, "--seeds", int),
            "options": tuple(options),
        }
    )


def is_there(member: Member, store: ArtifactStore) -> bool:
    """Whether a member has nothing left to run. A member whose recipe lacks data has not; running it says why."""
    try:
        return all(step.state == "cached" for step in plan_steps(member.recipe, store))
    except AlignflowError:
        return True


def numbers(text: str, where: str, kind: type[float] | type[int]) -> tuple[float, ...]:
    """Parse numbers separated by commas; raises RecipeError."""
    try:
        return tuple(kind(part) for part in text.replace(",", " ").split())
    except ValueError:
        do = "for example 1e-5,1e-4" if kind is float else "for example 0,1,2"
        raise RecipeError(f"{text!r} is not a list of numbers", where=where, do=do) from None


def table_of(results: Sequence[Result]) -> Table:
    """One line per member, narrow enough for a terminal; sweep.md has the rest."""
    table = Table(*(COLUMNS[number] for number in SHOWN))
    for result in by_family(results):
        row = cells(result)
        table.add_row(*(escape(row[number].replace("; ", "\n")) for number in SHOWN))
    return table


def write(directory: Path, name: str, results: Sequence[Result]) -> None:
    """Write the results so far; called after each member."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sweep.json").write_text(
        json.dumps([result.as_json() for result in results], indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    (directory / "sweep.md").write_text(markdown(name, results), encoding="utf-8")
    if image := picture(results):
        (directory / "sweep.png").write_bytes(image)
