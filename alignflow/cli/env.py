"""`alignflow env`: the chip, packages and engines of this machine, and what is missing for which feature."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.terminal import Console
from alignflow.tasks.launch.installed import ALWAYS, PACKAGES, installed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env")(env)


def env(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Show the chip, the precision and engines that `auto` chooses, versions, and what is missing for which feature. Also looks into vLLM's environment."""
    found = installed()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        show(Console(), found)
    if any(found["packages"][name] is None for name in ALWAYS):
        raise typer.Exit(1)


def show(console: Console, found: dict[str, Any]) -> None:
    """Print it as a table."""
    chip, vllm = found["chip"], found["vllm"]
    table = Table("what", "here")
    table.add_row("alignflow", f"{found['alignflow']}, Python {found['python']}")
    gpus = f"{chip['gpus_visible']} GPUs ({'; '.join(chip['gpus']) or 'the driver lists none'})"
    table.add_row("chip", gpus if chip["device"] == "cuda" else _cpu(chip))
    table.add_row(
        "precision: auto", ", ".join(f"{width}: {precision}" for width, precision in found["precision"].items())
    )
    for name in PACKAGES:
        version = found["packages"][name]
        table.add_row(name, "not installed" if version is None else version or "installed")
    where = f"in {vllm['python']}" if vllm["python"] else ""
    works = f"{vllm['version']} on {vllm['chip']}, torch {vllm['torch']}"
    table.add_row("vLLM", escape(f"{vllm['error'] or works} {where}".strip()))
    for role in ("training", "generators"):
        table.add_row(role, ", ".join(f"{name}{'' if works else ' (no)'}" for name, works in found[role].items()))
    for field, choice in found["auto"].items():
        table.add_row(f"{field}: auto", choice)
    console.print(table)
    for line in found["missing"]:
        console.print(escape(f"missing  {line}"), highlight=False)


def _cpu(chip: dict[str, Any]) -> str:
    bf16 = f"multiplies bf16 ({', '.join(chip['bf16'])})" if chip["bf16"] else "without bf16"
    return f"CPU, {chip['machine']}, {chip['cores']} cores, {bf16}"
