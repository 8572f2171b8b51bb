"""Runs as a person counts them: a run that a gate suspended is one run, and repeated runs that found everything are told once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from pydantic import BaseModel

from alignflow.tasks.store.run_records import CACHED, WAITS
from alignflow.tasks.store.run_rows import RunRow


class ShownRun(BaseModel):
    """A line of a list of runs.

    Attributes:
        row: The newest of the runs that stand behind the line.
        cached: How many earlier runs stand behind it that found the same artifacts for the same recipe and settings.
    """

    row: RunRow
    cached: int = 0


def folded(rows: Sequence[RunRow]) -> list[ShownRun]:
    """The lines of a list of runs, for rows that are given newest first, in the order of their dates."""
    lines: dict[Hashable, ShownRun] = {}
    for row in _once_each(rows):
        place: Hashable = _same(row) if row.state == CACHED else id(row)
        if place in lines:
            lines[place].cached += 1
        else:
            lines[place] = ShownRun(row=row)
    return sorted(lines.values(), key=lambda line: line.row.date, reverse=True)


def _once_each(rows: Sequence[RunRow]) -> list[RunRow]:
    """The rows, where those of one suspended run become one: the newest, which began when the first began and took as long as all of them.

    The members of a sweep have the flow run of the sweep in common, and are told apart by what they ask for.
    """
    whole: dict[str, RunRow] = {}
    found: list[RunRow] = []
    for row in rows:
        place = f"{row.flow_run} {_asked(row)}"
        newer = whole.get(place) if row.flow_run and row.state == WAITS else None
        if newer is None:
            whole[place] = row.model_copy()
            found.append(whole[place])
        else:
            newer.date = row.date
            newer.seconds = (
                sum(known) if (known := [each.seconds for each in (newer, row) if each.seconds is not None]) else None
            )
    return found


def _asked(row: RunRow) -> str:
    return repr((row.name, row.recipe, row.smoke, sorted((row.settings or {}).items())))


def _same(row: RunRow) -> str:
    return repr((_asked(row), sorted(row.steps.items())))
