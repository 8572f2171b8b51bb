"""Differences between two runs, step by step: settings, data, metrics, answers to the same prompts. Reads only the store."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from alignflow.data.artifacts import Manifest, verify_file
from alignflow.data.records import prompt_text, read_table
from alignflow.data.report.metrics import interval_ends
from alignflow.data.step_names import matching, step_name
from alignflow.tasks.keys.key import difference
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gates import row_ids, tables_of

ANSWERS = (("evaluate", "answers/aligned"), ("sample", "completions/train"))
"""(step, table) of answers to prompts, best first; the last round of a step counts."""
BOUNDS = ("/low", "/high")
"""Name suffixes of metrics that are the bounds of another metric's interval."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricPair(_Frozen):
    """A metric in both runs; None: not measured, or the run does not have it.

    Attributes:
        difference: second - first; None if either has no value.
        first_interval: (low, high) of the first value, if the manifest has one; `second_interval` likewise.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    first_interval: tuple[float, float] | None
    second_interval: tuple[float, float] | None


class TablePair(_Frozen):
    """Rows of a table in both runs, matched by their ids."""

    name: str
    first: int
    second: int
    common: int


class StepPair(_Frozen):
    """One step in both runs.

    Attributes:
        first: Key in the first run; empty if it has no such step. `second` likewise.
        same: Whether both have the same bytes.
        changes: Key components that differ, as `name first -> second`, without inputs.
        inputs: Names of the inputs that differ.
        beside: Differences that are not in the key: libraries, device, host.
        metrics: Metrics with different values; empty if both are the same artifact.
        tables: Tables with different rows.
    """

    name: str
    first: str
    second: str
    same: bool
    changes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    metrics: tuple[MetricPair, ...] = ()
    tables: tuple[TablePair, ...] = ()


class AnswerPair(_Frozen):
    """The answers of both runs to a prompt."""

    prompt: str
    first: str
    second: str


class Comparison(_Frozen):
    """All differences between two runs, named by the keys of their final artifacts."""

    first: str
    second: str
    steps: tuple[StepPair, ...]
    answers: tuple[AnswerPair, ...]


def compare(first: Manifest, second: Manifest, store: ArtifactStore, answers: int = 3) -> Comparison:
    """Compare the lineages of two artifacts; `answers` is the most prompts whose answers are compared.

    Raises:
        StoreError: an artifact of a lineage is no longer in the store.
    """
    runs = (lineage(first, store), lineage(second, store))
    names = [*runs[0], *(name for name in runs[1] if name not in runs[0])]
    steps = tuple(_step(name, runs[0].get(name), runs[1].get(name), store) for name in names)
    return Comparison(first=first.key, second=second.key, steps=steps, answers=tuple(_answers(runs, store, answers)))


def lineage(end: Manifest, store: ArtifactStore) -> dict[str, Manifest]:
    """The steps that led to an artifact, including itself, in the order of the run.

    A step has the name of its stage, with a number if there are several. A report has better names: a model that the user brought
    instead of a stage has that stage's name in its inputs, and rounds have their numbers.
    """
    names = {ref.key: name for name, ref in end.inputs.items()} if end.stage == "report" else {}
    found: dict[str, Manifest] = {}  # by key

    def visit(manifest: Manifest) -> None:
        if manifest.key in found:
            return
        for ref in manifest.inputs.values():
            visit(store.manifest(ref.key))
        found[manifest.key] = manifest

    visit(end)
    stages = [manifest.stage for key, manifest in found.items() if key not in names]
    for key, manifest in found.items():
        if key not in names:
            numbers = count(1) if stages.count(manifest.stage) > 1 else count()
            free = (step_name(manifest.stage, number) for number in numbers)
            names[key] = next(name for name in free if name not in names.values())
    return {names[key]: manifest for key, manifest in found.items()}


def _step(name: str, first: Manifest | None, second: Manifest | None, store: ArtifactStore) -> StepPair:
    keys = {"first": first.key if first else "", "second": second.key if second else ""}
    if first is None or second is None or first.key == second.key:
        return StepPair(name=name, same=first is not None and second is not None, **keys)
    changes = difference(second.components, first.components, (second.config, first.config))
    return StepPair(
        name=name,
        same=first.digest == second.digest,
        **keys,
        changes=tuple(change for change in changes if not change.startswith("input.")),
        inputs=tuple(
            change.split(" ", 1)[0].removeprefix("input.") for change in changes if change.startswith("input.")
        ),
        beside=tuple(difference({**second.libraries, **second.runtime}, {**first.libraries, **first.runtime})),
        metrics=tuple(_metrics(first.metrics, second.metrics)),
        tables=tuple(_tables(store.directory(first.key), store.directory(second.key))),
    )


def _metrics(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> list[MetricPair]:
    """Metrics that differ; bounds of an interval are listed with their metric."""
    names = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    return [
        MetricPair(
            name=name,
            first=first.get(name),
            second=second.get(name),
            difference=_difference(first.get(name), second.get(name)),
            first_interval=_interval(first, name),
            second_interval=_interval(second, name),
        )
        for name in names
        if not name.endswith(BOUNDS)
    ]


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def _interval(metrics: Mapping[str, float | None], name: str) -> tuple[float, float] | None:
    low, high = interval_ends(metrics, name)
    return None if low is None or high is None else (low, high)


def _tables(first: Path, second: Path) -> list[TablePair]:
    pairs = []
    for name in dict.fromkeys([*tables_of(first), *tables_of(second)]):
        ids = row_ids(first, name), row_ids(second, name)
        if ids[0] != ids[1]:
            pairs.append(TablePair(name=name, first=len(ids[0]), second=len(ids[1]), common=len(ids[0] & ids[1])))
    return pairs


def _answers(
    runs: tuple[dict[str, Manifest], dict[str, Manifest]], store: ArtifactStore, most: int
) -> list[AnswerPair]:
    """Answers to prompts that both runs answered, from the first (step, table) in which both have answers that differ."""
    for base, table in ANSWERS:
        rounds = [matching(run, base) for run in runs]
        ends = [run[names[-1]] for run, names in zip(runs, rounds, strict=True) if names]
        if len(ends) == 2 and ends[0].digest != ends[1].digest:
            given = [_answers_by_id(store.directory(end.key) / "payload" / f"{table}.parquet") for end in ends]
            common = [name for name in given[0] if name in given[1] and given[0][name] != given[1][name]]
            if common:
                return [
                    AnswerPair(prompt=given[0][name][0], first=given[0][name][1], second=given[1][name][1])
                    for name in common[:most]
                ]
    return []


def _answers_by_id(path: Path) -> dict[str, tuple[str, str]]:
    if not path.is_file():
        return {}
    verify_file(path)
    rows: list[dict[str, Any]] = read_table(path)
    return {row["id"]: (prompt_text(row["prompt"]), row["completions"][0]) for row in rows}
