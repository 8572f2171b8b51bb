"""Folds the list of runs: a run that a gate suspended is one line, and so are repeated runs that found everything."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from pydantic import BaseModel

from alignflow.tasks.store.run_records import CACHED, WAITS
from alignflow.tasks.store.run_rows import RunRow


class ShownRun(BaseModel):
    """A line of a list of runs.

    Attributes:
        row: The newest run of the line.
        cached: Number of earlier runs in it that found the same artifacts for the same recipe and settings.
    """

    row: RunRow
    cached: int = 0


def folded(rows: Sequence[RunRow]) -> list[ShownRun]:
    """The lines of a list of runs, newest first; `rows` must be newest first too."""
    lines: dict[Hashable, ShownRun] = {}
    for row in _once_each(rows):
        place: Hashable = _same(row) if row.state == CACHED else id(row)
        if place in lines:
            lines[place].cached += 1
        else:
            lines[place] = ShownRun(row=row)
    return sorted(lines.values(), key=lambda line: line.row.date, reverse=True)


def _once_each(rows: Sequence[RunRow]) -> list[RunRow]:
    """Merge the rows of each suspended run into its newest row, with the start of the first and the summed time of all.

    Members of a sweep share the sweep's flow run and are distinguished by their requests.
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
