"""Several runs beside each other: their headline metrics, the settings that differ, and the curves of the steps that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from alignflow.data.artifacts import Manifest
from alignflow.data.configs.places import DEFAULT, by_place
from alignflow.data.report.body import CURVES, FinishedStep
from alignflow.data.report.metrics import interval_ends, shown_names

HEADLINE = ("evaluate", "align", "merge", "reward", "label", "judge_eval", "sft")
"""Steps whose metrics stand in the table, the most telling ones first; of several rounds the last."""
HELD_OUT = "eval_"
"""Start of the names of curves that are measured on held-out rows; they are drawn in the plot of the training's curve."""
NOTHING = "–"
DIGEST = 64
"""Characters of a digest."""


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs that are compared.

    Attributes:
        name: What it is called on the page; no two runs have the same name there.
        key: Key of the artifact that it led to.
        steps: Step -> what it left, in the order of the run.
        gone: Steps that it made and the store no longer has.
    """

    name: str
    key: str
    steps: Mapping[str, FinishedStep]
    gone: tuple[str, ...] = ()


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Frozen):
    """A metric of one run; None: not measured, or not known. `n`: how many prompts, answers or rows it is measured on."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class MetricRow(_Frozen):
    """One metric of all runs, in their order; None for a run that does not have it."""

    step: str
    metric: str
    runs: tuple[Measured | None, ...]


class SettingRow(_Frozen):
    """A setting that differs, as a text for each run. Step is empty for what belongs to no step: libraries and the place of computation."""

    step: str
    setting: str
    runs: tuple[str, ...]


class Line(_Frozen):
    """The curve of one artifact, and the runs that have it. Points are (step, value) in training and on held-out rows."""

    runs: tuple[str, ...]
    training: tuple[tuple[float, float], ...]
    held_out: tuple[tuple[float, float], ...]


class Curve(_Frozen):
    """One metric of one step over the steps of its training; `headline`: the report of a run draws it too."""

    step: str
    metric: str
    lines: tuple[Line, ...]
    headline: bool


class RunsBeside(_Frozen):
    """All that is shown of several runs.

    Attributes:
        runs: Their names.
        keys: The artifacts that they led to.
        metrics: The table of headline metrics.
        settings: What differs in what they were computed from.
        curves: One for each plot.
        notes: What one run lacks and another has.
    """

    runs: tuple[str, ...]
    keys: tuple[str, ...]
    metrics: tuple[MetricRow, ...]
    settings: tuple[SettingRow, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


def beside(runs: Sequence[ComparedRun]) -> RunsBeside:
    """Set runs side by side; what a run lacks is told in a note. Raises DamagedArtifactError."""
    curves = _curves(runs)
    return RunsBeside(
        runs=tuple(run.name for run in runs),
        keys=tuple(run.key for run in runs),
        metrics=tuple(_metric_rows(runs)),
        settings=(*_setting_rows(runs), *_rows_beside_the_key(runs)),
        curves=tuple(curves),
        notes=(*_step_notes(runs), *_curve_notes(runs, curves)),
    )


def _steps(runs: Sequence[ComparedRun]) -> list[str]:
    """The steps that any run has."""
    return list(dict.fromkeys(name for run in runs for name in run.steps))


def _metric_rows(runs: Sequence[ComparedRun]) -> Iterator[MetricRow]:
    last = [{step.base: step for step in run.steps.values()} for run in runs]
    for base in HEADLINE:
        measured = [measured_of(steps[base]) if base in steps else {} for steps in last]
        for metric in dict.fromkeys(name for found in measured for name in found):
            row = tuple(found.get(metric) for found in measured)
            if any(value and value.value is not None for value in row):
                yield MetricRow(step=base, metric=metric, runs=row)


def measured_of(step: FinishedStep) -> dict[str, Measured]:
    """The headline metrics of a step by name, with interval and number where they are known."""
    metrics, more = step.metrics, _details(step)
    found = {}
    for name in shown_names(step.name, metrics):
        low, high = interval_ends(metrics, name)
        known = more.get(name, Measured(value=None))
        found[name] = Measured(
            value=metrics[name],
            low=known.low if low is None else low,
            high=known.high if high is None else high,
            n=known.n,
        )
    return found


def _details(step: FinishedStep) -> dict[str, Measured]:
    """What a step says of its metrics beside their values, by the name of the metric: numbers, and intervals that are no metrics."""
    if step.base == "reward":
        counts = [step.metrics.get(f"{HELD_OUT}{noun}") for noun in ("pairs", "lists", "answers")]
        return {"eval_accuracy": Measured(value=None, n=next((int(count) for count in counts if count), None))}
    statistics: Mapping[str, Any] = (step.statistics or {}) if step.base == "evaluate" else {}
    found = {}
    for name, judge in statistics.get("win_rate", {}).items():
        found[f"win_rate/{name}"] = Measured(value=None, n=judge["wins"] + judge["ties"] + judge["losses"])
    if (kl := statistics.get("kl", {})) and (interval := kl.get("per_answer")):
        found["kl"] = Measured(value=None, low=interval["low"], high=interval["high"], n=kl["answers"])
    if checked := statistics.get("verifiable", {}).get("checked"):
        names = [name for name in step.metrics if name.startswith("verifiable/")]
        found |= {name: Measured(value=None, n=checked) for name in names}
    for task, measured in statistics.get("lm_eval", {}).get("tasks", {}).items():
        names = [name for name in step.metrics if name.startswith(f"lm_eval/{task}/")]
        found |= {name: Measured(value=None, n=measured["n"]) for name in names}
    return found


def _setting_rows(runs: Sequence[ComparedRun]) -> Iterator[SettingRow]:
    for step in _steps(runs):
        manifests = [run.steps[step].manifest if step in run.steps else None for run in runs]
        known = [manifest for manifest in manifests if manifest is not None]
        places = sorted({name for manifest in known for name in manifest.components if not name.startswith("input.")})
        for place in places:
            if len({_text(manifest.components.get(place)) for manifest in known}) > 1:
                texts = tuple(NOTHING if manifest is None else _setting(manifest, place) for manifest in manifests)
                yield SettingRow(step=step, setting=place.removeprefix("config."), runs=texts)


def _setting(manifest: Manifest, place: str) -> str:
    """The value of a component of the key as a person wrote it; content that the key knows by its digest has that beside its name."""
    value = manifest.components.get(place)
    written = by_place(manifest.config).get(place.removeprefix("config."))
    if isinstance(value, str) and len(value) == DIGEST:
        return f"{Path(written).name} {value[:8]}" if isinstance(written, str) else value[:12]
    if place in manifest.components:
        return _text(value)
    return DEFAULT if written is None else _text(written)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows_beside_the_key(runs: Sequence[ComparedRun]) -> Iterator[SettingRow]:
    """Libraries and places of computation that differ: they are in no key."""
    found: list[dict[str, dict[str, None]]] = []
    for run in runs:
        values: dict[str, dict[str, None]] = {}
        for manifest in (step.manifest for step in run.steps.values() if step.manifest):
            for name, value in {**manifest.libraries, **manifest.runtime}.items():
                values.setdefault(name, {})[_text(value)] = None
        found.append(values)
    for name in sorted({name for values in found for name in values}):
        texts = [tuple(values.get(name, {})) for values in found]
        if len({frozenset(text) for text in texts}) > 1:
            shown = tuple(", ".join(text) or NOTHING for text in texts)
            yield SettingRow(step="", setting=f"{name} (not in the key)", runs=shown)


def _curves(runs: Sequence[ComparedRun]) -> list[Curve]:
    found = []
    for step in _steps(runs):
        points = {run.name: run.steps[step].curves() for run in runs if step in run.steps}
        same: dict[str, list[str]] = {}  # runs with one and the same artifact have one line
        for run in runs:
            if points.get(run.name):
                same.setdefault(_key(run, step), []).append(run.name)
        names = dict.fromkeys(name for of_run in points.values() for point in of_run for name in point)
        headline = CURVES.get(runs_base(runs, step), ())
        for metric in dict.fromkeys(name.removeprefix(HELD_OUT) for name in names if name != "step"):
            lines = [_line(tuple(of), points[of[0]], metric) for of in same.values()]
            drawn = tuple(line for line in lines if line.training or line.held_out)
            if drawn:
                found.append(Curve(step=step, metric=metric, lines=drawn, headline=metric in headline))
    return found


def runs_base(runs: Sequence[ComparedRun], step: str) -> str:
    """The name of a step without its round, as the first run that has it says."""
    return next(run.steps[step].base for run in runs if step in run.steps)


def _key(run: ComparedRun, step: str) -> str:
    manifest = run.steps[step].manifest
    return manifest.key if manifest else f"{run.name} {step}"


def _line(runs: tuple[str, ...], points: Sequence[Mapping[str, Any]], metric: str) -> Line:
    return Line(runs=runs, training=_values(points, metric), held_out=_values(points, HELD_OUT + metric))


def _values(points: Sequence[Mapping[str, Any]], metric: str) -> tuple[tuple[float, float], ...]:
    return tuple((point["step"], point[metric]) for point in points if isinstance(point.get(metric), int | float))


def _step_notes(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Steps that a run does not have and another has; artifacts that are gone."""
    for run in runs:
        if run.gone:
            yield f"{run.name}: the store no longer has what it made for {', '.join(run.gone)}"
        missing = [step for step in _steps(runs) if step not in run.steps and step not in run.gone]
        if missing:
            yield f"{run.name} has no step {', '.join(missing)}"


def _curve_notes(runs: Sequence[ComparedRun], curves: Sequence[Curve]) -> Iterator[str]:
    """Curves that a run lacks although it has the step, and files of curves that changed on disk."""
    drawn: dict[str, list[Curve]] = {}
    for curve in curves:
        drawn.setdefault(curve.step, []).append(curve)
    for run in runs:
        for step, of_step in drawn.items():
            if step not in run.steps:
                continue
            lacks = [curve.metric for curve in of_step if all(run.name not in line.runs for line in curve.lines)]
            if run.steps[step].left_out:
                yield f"{run.name}: the file of the curves of {step} changed on disk, and is not drawn"
            elif len(lacks) == len(of_step):
                yield f"{run.name} has no curves of {step}"
            elif lacks:
                yield f"{run.name} has no curve {', '.join(lacks)} of {step}"
