"""The runs of a store as a person compares them: what was changed, what came out, how long it took, what it takes on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from alignflow.data.artifacts import Manifest
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.places import differing
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.errors import AlignflowError
from alignflow.data.report.figures import figures_of
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.leftovers import size_of
from alignflow.tasks.store.run_records import FINISHED, Asked, RunRecord, records

OLDER = "old"
"""The state of a run of an older alignflow, of which a report is left and no record."""


class RunRow(BaseModel):
    """One run. None: not measured, or not known.

    Attributes:
        name: The recipe's; None for a run without a record.
        date: When it began, or when its report was made: ISO time, UTC.
        state: As a record says it, or `old`.
        method: Of its alignment.
        settings: Place -> value where its recipe differs from the recipe's file as it is now; where that file cannot be read, what was given
            over it. `(default)` stands for a value that the run did not set. None where nothing is known.
        smoke: Whether everything was done in small.
        win_rate: From 0 to 1, by `judge`; with the ends of its interval.
        kl: In nats per answer.
        reward_accuracy: From 0 to 1.
        seconds: The run's own time: what it found in the store cost it nothing.
        size: Bytes of all artifacts that it made or found, as far as they are still there.
        error: What stopped it.
        recipe: The recipe's file.
        steps: Step -> key.
        flow_run: The id of Prefect's flow run; a run that a gate suspended has a row for each time it was started, with one id.
    """

    name: str | None
    date: str
    state: str
    method: str | None
    settings: dict[str, Any] | None
    smoke: bool
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    judge: str | None
    kl: float | None
    reward_accuracy: float | None
    seconds: float | None
    size: int | None
    error: str | None
    recipe: str | None
    steps: dict[str, str]
    flow_run: str | None = None


def run_rows(store: ArtifactStore) -> list[RunRow]:
    """All runs, newest first: those that were recorded, and those of which a report alone is left."""

    @cache
    def size(key: str) -> int:
        return size_of(store.directory(key)) if store.directory(key).is_dir() else 0

    @cache
    def of_file(file: str, smoke: bool) -> dict[str, Any] | None:
        return _recipe_of(file, smoke)

    found = list(records(store))
    reported = {key for run in found for key in run.steps.values()}
    rows = []
    for run in (*found, *_unrecorded(store, reported)):
        sizes = sum(size(key) for key in set(run.steps.values()))
        now = of_file(run.asked.file, run.asked.smoke) if run.asked and run.asked.file else None
        rows.append(_row(run, sizes or None, _settings(run.asked, now)))
    return sorted(rows, key=lambda row: row.date, reverse=True)


def run_names(store: ArtifactStore) -> dict[str, str]:
    """Key of an artifact -> name of the newest run that made or found it."""
    names: dict[str, str] = {}
    for run in records(store):
        for key in run.steps.values() if run.asked else ():
            names.setdefault(key, run.asked.name if run.asked else "")
    return names


def _row(run: RunRecord, size: int | None, settings: dict[str, Any] | None) -> RunRow:
    asked = run.asked
    planned = asked.method if asked and run.state not in FINISHED else ""
    return RunRow(
        name=asked.name if asked else None,
        date=run.began,
        state=run.state,
        method=run.figures.method or planned or None,
        settings=settings,
        smoke=asked.smoke if asked else False,
        judge=run.figures.judge or None,
        seconds=run.seconds,
        size=size,
        error=run.error or None,
        recipe=asked.file or None if asked else None,
        steps=run.steps,
        flow_run=run.flow_run or None,
        **run.figures.model_dump(exclude={"method", "judge"}),
    )


def _settings(asked: Asked | None, now: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    if now is None:
        return asked.settings
    return {place: value for place, value in differing(asked.recipe, now).items() if place != "name"}


def _recipe_of(file: str, smoke: bool) -> dict[str, Any] | None:
    """What a recipe's file says now, as a record would have it; None where it cannot be read as a recipe."""
    try:
        recipe = load_recipe(Path(file))
    except AlignflowError:
        return None
    return (smoke_recipe(recipe) if smoke else recipe).model_dump(mode="json", exclude_defaults=True)


def _unrecorded(store: ArtifactStore, reported: set[str]) -> Iterator[RunRecord]:
    """A record for each report that no recorded run has: an older alignflow kept none."""
    for report in store.manifests("report"):
        if report.key not in reported:
            steps = {name: ref.key for name, ref in report.inputs.items()} | {"report": report.key}
            figures = figures_of(_there(store, steps))
            yield RunRecord(id=report.key, asked=None, state=OLDER, began=report.created, steps=steps, figures=figures)


def _there(store: ArtifactStore, steps: Mapping[str, str]) -> dict[str, Manifest]:
    found = {}
    for name, key in steps.items():
        try:
            found[name] = store.manifest(key)
        except AlignflowError:  # gone or damaged: its figures are not known
            continue
    return found
