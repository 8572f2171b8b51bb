"""`alignflow check-losses`: runs fixed cases through the loss functions that training calls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

MARKS = {"pass": "ok  ", "miss": "MISS", "not here": "--  "}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check-losses")(check_losses)


def check_losses(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON file of cases: inputs, arguments, expected outputs and gradients."),
    ],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also if a case needs something that is not available.")
    ] = False,
) -> None:
    """Run fixed cases through the loss functions in fp64. Exits with 1 if a case differs."""
    from alignflow.models.loss_cases import check_file  # imports torch, which other commands do not need

    counts: Counter[str] = Counter()
    for verdict in check_file(file):
        counts[verdict.outcome] += 1
        text = f"not here: {verdict.text}" if verdict.outcome == "not here" else verdict.text
        print(f"{MARKS[verdict.outcome]} {verdict.name}{f'  {text}' if text else ''}")
    print(f"{counts['pass']} pass, {counts['miss']} miss, {counts['not here']} not here")
    if counts["miss"] or (strict and counts["not here"]):
        raise typer.Exit(1)
