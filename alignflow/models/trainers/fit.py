"""The one training loop: the plan of steps is a pure function of the seed, and the state survives kills."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine
from alignflow.models.trainers.event_files import EventFiles
from alignflow.models.trainers.held_out import Evaluate, HeldOut
from alignflow.models.trainers.kept_lines import KeptLines
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.saved_state import SavedStates


@dataclass(frozen=True)
class StepOutput:
    """A trainer's result for a micro-batch.

    Attributes:
        loss: Scalar: the micro-batch's sum of losses; `fit` divides by the denominator of the whole step.
        metrics: Name -> (sum, count): reported as ratios of the sums over a step's micro-batches.
        token_loss: Scalar or None: a second sum of losses, which `fit` divides by `Plan.tokens` of the whole step.
        beside: Name of an engine of `Plan.beside` -> scalar: the sum of its losses, divided like `loss`. Each may depend only on the parameters
            of its engine, since each engine has a separate backward pass.
    """

    loss: torch.Tensor
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    token_loss: torch.Tensor | None = None
    beside: Mapping[str, torch.Tensor] = field(default_factory=dict)


Sums = dict[str, tuple[float, float]]
"""Name of a metric -> its sum and count."""


class WholeStep(Protocol):
    """Statistics that a loss needs from all rows of an optimizer step, over all processes, before its micro-batches, so that no
    result depends on how a step is split. Its state is saved with the training."""

    def before(self, rows: list[int]) -> Sums:
        """Read the rows of a step; returns metrics of the step, the same in every process."""

    def state(self) -> dict[str, float]:
        """The state for a resumed run."""

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from `state`; an empty one is the beginning."""


@dataclass(frozen=True)
class Plan:
    """The training data of `fit`.

    Attributes:
        stage: Name for messages.
        lengths: Tokens that each row costs in a forward pass.
        weights: What each row adds to a step's denominator: its supervised tokens, or 1.
        ids: Names of the rows, for messages.
        tokens: What each row adds to the denominator of a `token_loss`; empty if there is none.
        whole_step: Statistics of whole steps that the loss needs; None if it needs none.
        beside: Engines of networks that are trained together with the model, by name: at the same rate, and saved with it. Each micro-batch has a
            loss for each.
    """

    stage: str
    lengths: Sequence[int]
    weights: Sequence[float]
    ids: Sequence[str]
    tokens: Sequence[float] = ()
    whole_step: WholeStep | None = None
    beside: Mapping[str, Engine] = field(default_factory=dict)


WHOLE_STEP = "whole_step"
"""Name of the state of `Plan.whole_step` in a saved state."""
MODEL = "model"
"""Name of the engine of the model that is trained and published."""

Compute = Callable[[list[int]], StepOutput]
"""Rows (positions) of one micro-batch -> their summed loss and metrics."""


def fit(
    engine: Engine, compute: Compute, plan: Plan, config: TrainingConfig, run: Run, evaluate: Evaluate | None = None
) -> dict[str, float | None]:
    """Train, resuming from the last checkpoint in `run.work`; returns the figures of the last logging interval, and those of
    `evaluate` for the model that the engine ends with.

    Order of rows, schedule and micro-batches depend only on config and step number, so a resumed run ends with
    the weights of an uninterrupted one.

    Raises:
        TrainingError: no optimizer step would be taken, or a loss or gradient is not finite.
    """
    order, total = step_order(plan, config), total_steps(len(plan.lengths), config)
    if total == 0:
        raise TrainingError(
            "zero optimizer steps",
            where=plan.stage,
            do="set num_train_epochs or max_steps to a larger value, or use more rows",
        )
    if config.batch_size < group.size():
        run.warn(
            f"{group.size()} processes share {config.batch_size} rows per step, so some have no rows of their own; set {plan.stage}.batch_size to a larger value"
        )
    torch.manual_seed((config.seed * 1_000_003 + group.rank()) % 2**63)  # dropout, different in each process
    states, engines = SavedStates(run.work, run.warn, run.note), {MODEL: engine, **plan.beside}
    held_out, events = HeldOut(evaluate, engine, config, run), EventFiles(run)
    saved = states.restore(engines, held_out.has_best_of)
    start = saved.step if saved else 0
    log = _Log(run, config, total)
    log.restore(start, saved.extra if saved else {})
    held_out.restore(saved.extra if saved else {})
    whole = plan.whole_step
    if whole is not None:
        whole.restore(saved.extra.get(WHOLE_STEP, {}) if saved else {})
    for step in range(start, total):
        rows = order(step)
        if whole is not None:
            log.add(whole.before(rows))
        log.add(_gradients(engines, compute, plan, run, rows, step))
        rate = learning_rate(step, total, config)
        norm = _step(engine, rate, plan, step)
        log.add({f"{name}/grad_norm": (_step(other, rate, plan, step), 1.0) for name, other in plan.beside.items()})
        tokens = sum(plan.lengths[row] for row in rows)
        run.count_tokens(tokens)
        log.step(step + 1, tokens, rate, norm)
        if held_out.due(step + 1, total):
            log.evaluated(step + 1, held_out.evaluate)
        if held_out.stopped:
            break
        if (step + 1) % config.save_steps == 0 and step + 1 < total:
            of_steps = {} if whole is None else {WHOLE_STEP: whole.state()}
            states.save(step + 1, engines, held_out.state() | log.state() | of_steps)
    events.close()
    return log.last | held_out.finish()


def _step(engine: Engine, rate: float, plan: Plan, step: int) -> float:
    """Take a step, and return the gradient's norm; raises TrainingError if it is not finite."""
    norm = engine.step(rate)
    if not math.isfinite(norm):
        raise TrainingError(
            "the gradient is not finite",
            where=f"{plan.stage}, step {step + 1}",
            do="set a smaller learning_rate, or max_grad_norm",
        )
    return norm


def _gradients(
    engines: Mapping[str, Engine], compute: Compute, plan: Plan, run: Run, rows: list[int], step: int
) -> Sums:
    """Run the forward and backward passes of a step; returns the sums of its metrics over all processes.

    Raises:
        TrainingError: a loss is not finite, in any process: all of them raise the same.
    """
    denominator = sum(plan.weights[row] for row in rows)
    token_denominator = max(sum(plan.tokens[row] for row in rows), 1.0) if plan.tokens else 1.0
    sums: list[Sums] = []
    broken: list[tuple[str, list[int]]] = []
    for own in passes([plan.lengths[row] for row in rows], run.runtime.micro_batch_tokens):
        chosen = [rows[index] for index in own.rows]
        output = compute(chosen)
        loss = output.loss / denominator
        if output.token_loss is not None:
            loss = loss + output.token_loss / token_denominator
        losses = {MODEL: loss, **{name: of_other / denominator for name, of_other in output.beside.items()}}
        for name, engine in engines.items():
            engine.backward(losses[name] if own.counts else losses[name] * 0.0)
        if not own.counts:
            continue
        broken += [(str(float(value.detach())), chosen) for value in losses.values() if not torch.isfinite(value)]
        shown = float(output.loss.detach()) / denominator if output.token_loss is None else float(loss.detach())
        sums.append({"loss": (shown, 0.0), **output.metrics})
    everyone = group.gather({"sums": {} if broken else _added(sums), "broken": broken[:1]})
    for found in everyone:
        for loss, chosen in found["broken"]:
            raise _not_finite(loss, plan, step, chosen)
    return _added(found["sums"] for found in everyone)


def _added(parts: Iterable[Sums]) -> Sums:
    """The sums of metrics over micro-batches or processes, in their order."""
    added: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (total, count) in part.items():
            known = added.get(name, (0.0, 0.0))
            added[name] = (known[0] + total, known[1] + count)
    return added


def total_steps(rows: int, config: TrainingConfig) -> int:
    """Optimizer steps of a run: `max_steps`, or as many whole or partial batches as the epochs have."""
    if config.max_steps >= 0:
        return config.max_steps if rows else 0
    return math.ceil(rows * config.num_train_epochs / config.batch_size - 1e-9) if rows else 0


def step_order(plan: Plan, config: TrainingConfig) -> Callable[[int], list[int]]:
    """The rows of each step: one stream of epochs, each shuffled by seed and epoch number, split into batches."""
    count = len(plan.lengths)
    epochs: dict[int, list[int]] = {}

    def epoch(number: int) -> list[int]:
        if number not in epochs:
            generator = torch.Generator().manual_seed((config.seed * 1_000_003 + number) % 2**63)
            epochs[number] = torch.randperm(count, generator=generator).tolist()
        return epochs[number]

    end = count * math.ceil(config.num_train_epochs) if config.max_steps < 0 else None

    def rows(step: int) -> list[int]:
        first = step * config.batch_size
        last = first + config.batch_size if end is None else min(first + config.batch_size, end)
        return [epoch(place // count)[place % count] for place in range(first, last)]

    return rows


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Linear warm-up to the peak, then the schedule down to 0 (constant: none), at `step` (from 0) of `total`."""
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    return config.learning_rate * SCHEDULES[config.lr_scheduler_type](share)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}


def _not_finite(loss: str, plan: Plan, step: int, rows: list[int]) -> TrainingError:
    named = ", ".join(plan.ids[row] for row in rows[:4]) + (" ..." if len(rows) > 4 else "")
    return TrainingError(
        f"the loss is {loss}",
        where=f"{plan.stage}, step {step + 1}, rows {named}",
        do="set a smaller learning_rate, or check these rows; the last checkpoint is kept",
    )


class _Log:
    """Sums of metrics between two points of the curves."""

    def __init__(self, run: Run, config: TrainingConfig, total: int):
        self.last: dict[str, float | None] = {}
        self._run, self._every, self._total = run, config.logging_steps, total
        self._curves = KeptLines(run, "curves")
        self._sums: dict[str, list[float]] = {}
        self._tokens, self._started = 0, time.monotonic()

    def state(self) -> dict[str, Any]:
        """For `SavedStates.save`: a state may come between two points of the curves."""
        return {"log": {"sums": self._sums, "last": self.last}}

    def restore(self, step: int, extra: Mapping[str, Any]) -> None:
        """Start the curves; a resumed run continues after `step` with the result of `state` and the killed run's curve."""
        self._curves.forget_after(step)
        known = extra.get("log", {"sums": {}, "last": {}})
        self._sums, self.last = known["sums"], known["last"]

    def add(self, sums: Sums) -> None:
        """Add the metrics of one step."""
        for name, (total, count) in sums.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            pair[0] += total
            pair[1] += count

    def step(self, step: int, tokens: int, rate: float, norm: float) -> None:
        """End a step: show progress, and write a point of the curves if one is due."""
        self._tokens += tokens
        self._sums["loss"][1] += 1
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        loss = self._sums["loss"]
        self._run.progress(step, self._total, "steps", loss=loss[0] / loss[1], tokens_per_s=speed)
        if step % self._every == 0 or step == self._total:
            self.last = {name: total / count for name, (total, count) in self._sums.items() if count}
            point = {**self.last, "learning_rate": rate, "grad_norm": norm, "tokens_per_s": speed}
            self._curves.write(step, point)
            self._sums = {}

    def evaluated(self, step: int, evaluate: Callable[[int], dict[str, float]]) -> None:
        """Evaluate, and write a separate point; its time does not count as training time."""
        started = time.monotonic()
        if point := evaluate(step):
            self._curves.write(step, point)
        self._started += time.monotonic() - started
