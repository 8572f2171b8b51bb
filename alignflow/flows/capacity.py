"""Estimates what the steps of a run need, and finds steps that do not fit the machine. No torch; runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from alignflow.data.configs.recipe import EngineConfig, Recipe
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import UserError
from alignflow.data.estimate.demands import Asked, Demand, Settings
from alignflow.data.estimate.memory import Scorers
from alignflow.data.estimate.place import GIB, MIB, Need, Phase
from alignflow.data.estimate.remedies import remedies
from alignflow.data.estimate.shapes import ModelShape, built_shape, read_shape, scorer_shapes
from alignflow.data.estimate.stages import DEMANDS, demand
from alignflow.data.estimate.tokens import implied_tokens
from alignflow.data.run import Runtime
from alignflow.flows.calls import Step
from alignflow.flows.generators import with_generators
from alignflow.flows.graph import nodes
from alignflow.flows.steps import Link, Node
from alignflow.tasks.launch.machine import Machine, this_machine
from alignflow.tasks.launch.precision import recipe_width
from alignflow.tasks.launch.runtime import resolve_runtime, sharding
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.past_runs import nearest_run

TOLERANCE = 0.2
"""An estimate that exceeds a limit by less than this share may still fit: it counts as tight, and runs."""
SHORT_ROWS = 0.5
"""Mean row length that a refusal assumes, as a share of `max_length`. The displayed estimate assumes the longest rows."""
PASSED_ON = {"sft": "base", "align": "policy", "reward": "base", "merge": "base"}
"""Stage -> the input that has the same shape as the stage's model."""


@dataclass(frozen=True)
class StepNeed:
    """The needs of one step.

    Attributes:
        name: The step.
        memory: Memory of one process; None if it holds no model, or the shape is unknown.
        unknown: Whether it holds a model of unknown shape.
        disk: Bytes of its artifact, and of its training states while it runs.
        time: Duration, in words.
        too_large: Lines about what does not fit and what to do; empty if it fits.
        tight: Whether it exceeds a limit by less than the estimate's tolerance.
    """

    name: str
    memory: Need | None = None
    unknown: bool = False
    disk: int = 0
    time: str = ""
    too_large: tuple[str, ...] = ()
    tight: bool = False


@dataclass
class _Seen:
    """Information from the steps so far."""

    shapes: dict[str, ModelShape | None] = field(default_factory=dict)
    members: dict[str, Scorers] = field(default_factory=dict)  # step -> the reward models of its ensemble
    statistics: Mapping[str, Any] = field(default_factory=dict)
    pairs: int | None = None
    labelled: Mapping[str, int] = field(default_factory=dict)  # table of `label` -> its rows to train on
    shares: dict[str, float] = field(
        default_factory=dict
    )  # step that cuts the data -> share of the rows of one of its parts
    disk: int = 0  # bytes that earlier steps of this run will have published


class Estimator:
    """Estimates the steps of a recipe on a machine; by default this one."""

    def __init__(self, recipe: Recipe, store: ArtifactStore, machine: Machine | None = None):
        self.recipe, self.store = recipe, store
        gpus = len(machine.gpus) if machine else None
        self.runtime: Runtime = resolve_runtime(recipe.engine, recipe_width(recipe), gpus)
        self.machine = machine or this_machine(store.root, self.runtime.device)

    def needs(self, steps: Sequence[Step], also: frozenset[str] = frozenset()) -> list[StepNeed]:
        """One need per step, in order; empty for steps that do not run. `also` names cached steps that run again."""
        seen, by_name, found = _Seen(), {step.name: step for step in steps}, []
        for node in nodes(self.recipe):
            step = by_name[node.name]
            self._look(node, step, seen)
            runs = step.state in ("run", "after") or step.name in also
            found.append(self._need(node, seen) if runs else StepNeed(node.name))
        return found

    def _look(self, node: Node, step: Step, seen: _Seen) -> None:
        """Store what later steps need to know of a step: its model's shape, and its statistics if it has run."""
        if node.stage in PASSED_ON:
            seen.shapes[node.name] = seen.shapes[node.inputs[PASSED_ON[node.stage]].node]
        elif node.stage == "init":
            config: Any = node.config
            seen.shapes[node.name] = (
                built_shape(config.build) if config.path is None else read_shape(config.path, config.revision)
            )
        elif node.stage == "adopt_reward":
            seen.members[node.name] = scorer_shapes(node.config.path)  # type: ignore[attr-defined]
            seen.shapes[node.name] = seen.members[node.name][0]
        elif node.stage == "reward_ensemble":
            links = [link.node for link in node.inputs.values() if not link.part]
            seen.members[node.name] = tuple(
                shape for name in links for shape in seen.members.get(name, (seen.shapes.get(name),))
            )
            seen.shapes[node.name] = seen.members[node.name][0]
        elif node.stage == "split":
            seen.shares[node.name] = 1 / node.config.parts  # type: ignore[attr-defined]
        if step.state != "cached":
            return
        payload = self.store.directory(step.key) / "payload"
        if node.name in seen.shapes:  # trust the existing model: a trained vocabulary may be smaller than requested
            seen.shapes[node.name] = read_shape(payload) or seen.shapes[node.name]
        if node.stage == "prepare":
            seen.statistics = json.loads((payload / "statistics.json").read_text())
        elif node.stage == "label":
            metrics = self.store.manifest(step.key).metrics
            pairs, good, bad = (metrics.get(name) for name in ("pairs/train", "unpaired/good", "unpaired/bad"))
            seen.pairs = int(pairs) if pairs is not None else None
            seen.labelled = {"unpaired": int(good + bad)} if good is not None and bad is not None else {}

    def _need(self, node: Node, seen: _Seen) -> StepNeed:
        shapes = {name: seen.shapes.get(link.node) for name, link in node.inputs.items()}
        prompt_length = self.recipe.data.max_prompt_length
        members = {"members": seen.members[node.name]} if node.stage == "reward_ensemble" else {}
        members |= {name: seen.members[link.node] for name, link in node.inputs.items() if link.node in seen.members}
        config = with_generators(node.config, self.recipe.engine.generator, self.runtime.device)
        asked = Asked(config, shapes, self.runtime, prompt_length, members)
        found = demand(node.stage, asked)
        time = self._time(node, seen, next(iter(shape for shape in shapes.values() if shape), None))
        if found is None:
            models = [
                *(shape for name, shape in shapes.items() if name in MODELS),
                seen.shapes.get(node.name, NO_MODEL),
            ]
            return StepNeed(node.name, unknown=node.stage in DEMANDS and None in models, time=time)
        need = found.need(found.settings)
        lines, tight = self._check_memory(node, found, need)
        lines += self._check_disk(node.name, found, seen.disk)
        seen.disk += found.published
        return StepNeed(node.name, need, False, found.published + found.states, time, tuple(lines), tight)

    def _check_memory(self, node: Node, found: Demand, need: Need) -> tuple[list[str], bool]:
        """Reasons and remedies if it cannot fit even with short rows and a high estimate; else whether it is tight."""
        surely = found.need(replace(found.settings, fill=SHORT_ROWS))
        shards = self._shards_here(node)
        limits = self._limits(found.settings, need, shards)
        refused = [
            wanted * (1 - TOLERANCE) > limit
            for _, wanted, limit in self._limits(found.settings, surely, shards)
            if limit is not None
        ]
        over = [(what, wanted, limit) for what, wanted, limit in limits if limit is not None and wanted > limit]
        if not any(refused):
            return [], bool(over)
        lines = [
            f"{node.name} needs about {size(wanted)} of {what}, but there are {size(limit)}: {parts_text(need.peak)}"
            for what, wanted, limit in over
        ]
        known = frozenset(type(node.config).model_fields) | frozenset(EngineConfig.model_fields)
        if shards > 1:
            lines.append(
                f"  {node.base}.shards {shards}: each process on this machine has its own copy of the model; lower it, or see engine.dask_address"
            )
        for remedy in remedies(found, node.base, known, partial(self._fits, shards)):
            much = "" if remedy.fits else ", still too much"
            lines.append(f"  {remedy.change}: {size(remedy.need.peak.total)}{much}")
        return lines, False

    def _shards_here(self, node: Node) -> int:
        """Processes on this machine that compute shards of a step's rows; those of a Dask cluster elsewhere are not counted."""
        asked = sharding(node.stage, node.config, self.recipe.engine)
        return 1 if asked.dask_address else asked.shards

    def _limits(self, settings: Settings, need: Need, shards: int) -> list[tuple[str, float, int | None]]:
        """(resource, needed, available) tuples: GPU memory for one process, main memory for all processes of this machine."""
        place = settings.place
        processes = place.processes_per_node * shards
        if place.device == "cpu":
            return [("memory", need.peak.total * processes, self.machine.memory)]
        smallest = min(self.machine.gpus, default=None)
        return [("GPU memory", need.peak.total, smallest), ("memory", need.host_total * processes, self.machine.memory)]

    def _fits(self, shards: int, settings: Settings, need: Need) -> bool:
        return all(limit is None or wanted <= limit for _, wanted, limit in self._limits(settings, need, shards))

    def _check_disk(self, name: str, found: Demand, before: int) -> list[str]:
        free, wanted = self.machine.free_disk, before + found.published + found.states
        if free is None or wanted <= free or not found.published + found.states:
            return []
        return [
            f"{name} needs {size(wanted)} of disk ({size(found.states)} of training states, {size(before + found.published)} of checkpoints), "
            f"but {size(free)} are free at {self.store.root}",
            "  free some space (`alignflow gc`), or set ALIGNFLOW_HOME to another file system",
        ]

    def _time(self, node: Node, seen: _Seen, shape: ModelShape | None) -> str:
        parameters = shape.parameters if shape else None
        method = node.config.method if isinstance(node.config, AlignConfig) else None
        earlier = nearest_run(self.store, node.stage, self.runtime.device, parameters, method)
        if earlier is None:
            return ""
        share = min((seen.shares[link.node] for link in node.inputs.values() if link.node in seen.shares), default=1.0)
        tokens = implied_tokens(node.stage, node.config, _counted(node, seen), seen.pairs, share)
        seconds = earlier.seconds(tokens.count, parameters) if tokens else None
        if tokens is None:
            return f"{duration(earlier.wall_s)} last time"
        if seconds is None:
            return ""
        return f"{'under' if tokens.at_most else 'about'} {duration(seconds)}"


def _counted(node: Node, seen: _Seen) -> Mapping[str, Any]:
    """The statistics of `prepare`, with the row counts of tables that the step reads from `label`: the number of pairs does not give the number of labelled answers."""
    made = {kind: rows for kind, rows in seen.labelled.items() if node.inputs.get(kind) == Link("label", kind)}
    tables = {kind: {"sides": {"train": rows}} for kind, rows in made.items()}
    return {**seen.statistics, "tables": {**seen.statistics.get("tables", {}), **tables}} if tables else seen.statistics


MODELS = frozenset({"base", "policy", "aligned", "sft", "reward_model", "checkpoint"})
"""Names of inputs that are models."""
NO_MODEL = object()


def refuse_too_large(needs: Sequence[StepNeed], chosen: frozenset[str]) -> None:
    """Raise UserError with all reasons if a chosen step cannot fit."""
    lines = [line for need in needs if need.name in chosen for line in need.too_large]
    if lines:
        raise UserError(
            "the run cannot fit this machine, so nothing was run\n  " + "\n  ".join(lines),
            do="change that, or pass --even-if-too-large to run anyway",
        )


def parts_text(phase: Phase) -> str:
    """A phase and its largest parts."""
    largest = sorted(phase.parts.items(), key=lambda item: -item[1])[:5]
    return f"{phase.name}, " + ", ".join(
        f"{name} {size(value)}" for name, value in largest if value >= 0.01 * phase.total
    )


def size(value: float) -> str:
    """Bytes in GiB, or in MiB below one GiB, to about two digits."""
    amount, unit = (value / GIB, "GiB") if value >= GIB else (value / MIB, "MiB")
    return f"{amount:.0f} {unit}" if amount >= 99.5 or unit == "MiB" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds in the most readable unit."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
