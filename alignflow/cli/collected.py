"""Texts of `alignflow gc`: what it would remove, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from alignflow.tasks.store.gc import Plan
from alignflow.tasks.store.leftovers import AREAS, Entry
from alignflow.tasks.store.run_cells import size_text

MOST_NAMED = 10
WHAT = {
    "artifacts": "artifacts that no kept one needs",
    "gates": "verdicts of gates on artifacts that are not kept",
    "quarantine": "damaged, replaced or half-removed artifacts",
    "staging": "unfinished output of dead runs",
    "work": "half-done work of dead runs",
    "rows": "journals of rows that no kept artifact can use",
    "encoded": "token ids of tables that nobody trains on",
    "runs": "old logs and notes of runs",
}


def waste_lines(waste: Sequence[Entry], sizes: Mapping[Path, int]) -> Iterator[str]:
    """Lines about what gc would remove: for each folder of the store number and size, and below it the largest entries.

    Args:
        waste: The entries to remove.
        sizes: Bytes of each path.
    """
    for area in AREAS:
        entries = sorted(
            (entry for entry in waste if entry.area == area), key=lambda entry: sizes[entry.path], reverse=True
        )
        if not entries:
            continue
        yield f"{size_text(sum(sizes[entry.path] for entry in entries)):>12}  {area}/: {len(entries)} ({WHAT[area]})"
        for entry in entries[:MOST_NAMED]:
            yield f"{size_text(sizes[entry.path]):>14}  {area}/{entry.path.name}"
        if more := entries[MOST_NAMED:]:
            yield f"{size_text(sum(sizes[entry.path] for entry in more)):>14}  and {len(more)} more"


def stays_lines(plan: Plan, sizes: Mapping[Path, int], root: Path, days: float) -> Iterator[str]:
    """Lines about entries that stay although no kept artifact needs them, and why."""
    if plan.in_use:
        yield f"in use: {len(plan.in_use)} entries that running processes use ({_named([entry.path for entry in plan.in_use], root)})"
    if plan.recent:
        size = size_text(sum(sizes[entry.path] for entry in plan.recent))
        yield f"kept for now: {len(plan.recent)} entries (journals, logs, quarantine), {size}, used or set aside in the last {days:g} days (--unused-for)"
    if plan.others:
        yield f"left alone: {len(plan.others)} entries that alignflow did not make or cannot read ({_named(plan.others, root)})"


def _named(paths: Sequence[Path], root: Path) -> str:
    names = [_printable(str(path.relative_to(root))) for path in paths[:MOST_NAMED]]
    return ", ".join(names) + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
