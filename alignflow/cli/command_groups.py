"""The commands of `alignflow --help` under headings, by purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

GROUPS: Mapping[str, Sequence[str]] = {
    "Run": ("new", "plan", "run", "label", "sweep", "node"),
    "Look": ("runs", "list", "compare", "lineage", "chat", "inspect", "env"),
    "Data and judges": ("annotate", "judge-data", "judge-eval"),
    "Hand over": ("export", "push"),
    "Serve": ("up", "down", "worker", "status", "submit", "answer", "schedule"),
    "Keep the store": ("verify", "gc", "share-store"),
    "What a recipe may name": (
        "stages",
        "methods",
        "families",
        "advantages",
        "policy-losses",
        "judges",
        "rewards",
        "verifiers",
        "generators",
        "evaluators",
        "formats",
        "check-losses",
    ),
}
"""Heading -> its commands, in the order of the help."""


class GroupedCommands(TyperGroup):
    """A group of commands whose help is ordered by GROUPS. A command in no group comes last, under `Other`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per heading."""
        known = {name for names in GROUPS.values() for name in names}
        rest = [name for name in self.list_commands(ctx) if name not in known]
        for heading, names in [*GROUPS.items(), ("Other", rest)]:
            found = [(name, self.get_command(ctx, name)) for name in names]
            width = formatter.width - 18
            rows = [
                (name, command.get_short_help_str(width)) for name, command in found if command and not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
