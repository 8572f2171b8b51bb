"""Lists what a recipe may name, from the catalogue: stages, methods, judges, formats, evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.markup import escape
from rich.table import Table

from alignflow.cli.terminal import Console
from alignflow.data import catalogue, own_module
from alignflow.data.catalogue import Family, JudgeRow, Method, Part, Reward, Stage
from alignflow.data.configs.bounds import bounds_of
from alignflow.data.own_methods import OwnMethod, method_row
from alignflow.flows.method_inputs import LABELLED


def register(app: typer.Typer) -> None:
    """Add one command per table of the catalogue."""
    for table, rows in catalogue.TABLES.items():
        shown = table.replace("_", "-")
        app.command(
            shown, help=f"List the {table.replace('_', ' ')} that a recipe may name, or show one with its options."
        )(_command(table, rows))


def _command(table: str, rows: Any) -> Any:
    def show(name: Annotated[str | None, typer.Argument(metavar="NAME")] = None) -> None:
        console = Console()
        if name is None:
            listing = Table("name", "", *EXTRA_COLUMNS.get(table, ()))
            for row_name, row in rows.items():
                listing.add_row(row_name, escape(row.summary), *_extra(row))
            console.print(listing)
        else:
            show_one(console, own_module.short(name), row_of(table, rows, name))

    return show


def row_of(table: str, rows: Mapping[str, Part], name: str) -> Part:
    """The row of a name. Your own loss is read from its file; the path is relative to the working directory."""
    if table == "methods":
        return method_row(own_module.absolute(name, Path.cwd()), table)
    return catalogue.look_up(rows, name, table)


EXTRA_COLUMNS = {
    "stages": ("takes", "makes"),
    "methods": ("family", "columns", "reference", "arXiv"),
    "families": ("columns", "fed by"),
}
"""The columns of a list beside name and summary."""


def _extra(row: Part) -> list[str]:
    if isinstance(row, Method):
        return [row.family, ", ".join(row.learns_from().columns), _second_model(row), row.paper]
    if isinstance(row, Family):
        return [", ".join(row.columns), ", ".join(f"data.{feed.kind}" for feed in row.feeds) or "its own samples"]
    return [", ".join(row.takes), row.makes] if isinstance(row, Stage) else []


def _second_model(row: Method) -> str:
    if row.teacher:
        return "teacher"
    return "frozen model" if row.needs_reference else "none"


def show_one(console: Console, name: str, row: Part) -> None:
    """One row with every option, its default and its bounds."""
    console.print(f"[bold]{name}[/bold]  {escape(row.summary)}  ({about_version(row)})", highlight=False)
    if isinstance(row, Method):
        reference = {"none": "no reference model", "teacher": "a frozen teacher"}.get(
            _second_model(row), "a frozen reference model"
        )
        family = row.learns_from()
        paper = f"; arXiv {row.paper}" if row.paper else ""
        console.print(f"family {row.family}; columns {', '.join(family.columns)}; {reference}{paper}", highlight=False)
        for feed in family.feeds:
            formats = ", ".join(name for name, each in catalogue.FORMATS.items() if feed.kind in each.kinds)
            source = f"formats {formats}{'; or the label stage' if feed.kind in LABELLED else ''}"
            console.print(
                f"fed by data.{feed.kind} ({source}){f': {feed.summary}' if feed.summary else ''}", highlight=False
            )
        if isinstance(row, OwnMethod) and row.docstring:
            console.print(escape(row.docstring), highlight=False)
        if row.formula:
            console.print(f"loss: {escape(row.formula)}", highlight=False)
        if row.nll_option:
            console.print(
                f"its loss includes the chosen answers' NLL: set options.{row.nll_option}, not align.sft_coefficient",
                highlight=False,
            )
        if unread := row.learns_from().unread:
            console.print(f"does not use align.{', align.'.join(unread)}", highlight=False)
    config = (
        row.config if isinstance(row, Stage) else row.options if isinstance(row, Method | JudgeRow | Reward) else None
    )
    if config is not None and config.model_fields:
        console.print(options_table(config))


def about_version(row: Part) -> str:
    """What identifies the results of a row: its version, or its file."""
    return "your own: its file enters the cache key" if isinstance(row, OwnMethod) else f"version {row.version}"


def options_table(config: type[BaseModel]) -> Table:
    """Print the fields with defaults, bounds and meaning."""
    table = Table("field", "default", "bounds", "")
    for name, field in config.model_fields.items():
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "(see its own fields)" if isinstance(default, BaseModel) else str(_plain(default))
        table.add_row(name, escape(shown), escape(bounds_of(field)), escape(field.description or ""))
    return table


def _plain(default: Any) -> Any:
    """A list of configs as you would write it; anything else unchanged."""
    if isinstance(default, tuple):
        return tuple(item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in default)
    return default
