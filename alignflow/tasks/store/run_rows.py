"""The runs of a store for comparison: changes to the recipe, results, duration, size on disk."""

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
"""State of a run of an older alignflow, which has a report but no record."""


class RunRow(BaseModel):
    """One run. None: not measured or unknown.

    Attributes:
        name: The recipe's name; None for a run without a record.
        date: Its start, or the time of its report: ISO time, UTC.
        state: State of the record, or `old`.
        method: Method of its alignment.
        settings: Place -> value where its recipe differs from the recipe's current file; if that file cannot be read, the settings given
            on top of it. `(default)`: the run did not set the value. None if unknown.
        smoke: Whether it was a --smoke run.
        win_rate: From 0 to 1, by `judge`; with the bounds of its interval.
        kl: In nats per answer.
        reward_accuracy: From 0 to 1.
        seconds: The run's own time; steps found in the store cost nothing.
        size: Bytes of all its artifacts that still exist, made or found.
        error: The error that stopped it.
        recipe: The recipe's file.
        steps: Step -> key.
        flow_run: Id of Prefect's flow run; a run that a gate suspended has one row per start, all with this id.
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
    """All runs, newest first: recorded runs, and runs that have only a report."""

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
    """Artifact key -> name of the newest run that made or found it."""
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
    """The current content of a recipe's file in the form of a record; None if it is not a readable recipe."""
    try:
        recipe = load_recipe(Path(file))
    except AlignflowError:
        return None
    return (smoke_recipe(recipe) if smoke else recipe).model_dump(mode="json", exclude_defaults=True)


def _unrecorded(store: ArtifactStore, reported: set[str]) -> Iterator[RunRecord]:
    """A record for each report without a recorded run: older alignflow versions wrote no records."""
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
        except AlignflowError:  # gone or damaged: its figures are unknown
            continue
    return found
