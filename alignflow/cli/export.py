"""`alignflow export`: a model as a directory of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from alignflow.cli.chat import find_model
from alignflow.cli.terminal import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export_model)


def export_model(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Key or path of a checkpoint or reward model.")],
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where to write it; must not exist, or be empty.")
    ],
) -> None:
    """Write a model as a Hugging Face directory that needs nothing beside it; an adapter is merged into its base, and of an ensemble
    of reward models each member is written."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    console = Console()
    with (
        find_model(reference, "export", ("checkpoint", "reward_model")) as (name, path),
        console.status(f"writing {name}"),
    ):
        from alignflow.models.export import export

        export(path, directory)
    console.print(f"{name}: {escape(str(directory))}", highlight=False, soft_wrap=True)
