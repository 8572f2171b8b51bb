"""Evaluation while a model trains: at which steps, which step was the best, its weights on disk, and when to stop early."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine
from alignflow.models.engines.parts import reader_of, whole_state

BEST_FILE = "best/weights.safetensors"
WEIGHTS = "weights/"

Figures = dict[str, float | None]
Evaluate = Callable[[], Mapping[str, float | None]]
"""Metrics of the model as it stands on held-out rows, named `eval_...`; every process calls it."""


@dataclass
class _Progress:
    """What a resumed run must know of the evaluations before it; JSON."""

    best_step: int | None = None
    best_value: float | None = None
    best_metrics: Figures = field(default_factory=dict)
    without_better: int = 0  # evaluations in a row
    stopped_at_step: int | None = None


class HeldOut:
    """Evaluates at the steps that the config names and at the end; keeps the best weights in `run.work`/best.

    The weights stand in one file that a rename commits, with their step and metrics inside, so that they survive a kill
    and are never half-written. What the main process measures is what all processes go by.

    Args:
        evaluate: None where there is nothing to evaluate on: then nothing is the best, and nothing stops early.
        engine: Whose weights they are.
        config: eval_steps, metric_for_best_model, load_best_model_at_end, early_stopping_patience.
        run: Where the best is kept, and who hears warnings.
    """

    def __init__(self, evaluate: Evaluate | None, engine: Engine, config: TrainingConfig, run: Run):
        self._evaluate, self._engine, self._config, self._run = evaluate, engine, config, run
        self._file = run.work / BEST_FILE
        self._progress = _Progress()
        self._last: Figures = {}

    def due(self, step: int, total: int) -> bool:
        """Whether to evaluate after `step` of `total` steps."""
        every = self._config.eval_steps
        return self._evaluate is not None and (step == total or bool(every and step % every == 0))

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate after `step` steps, keep the weights where they are the best so far; returns the figures that there are."""
        assert self._evaluate is not None
        self._last = group.gather(dict(self._evaluate()))[0]
        if self._config.eval_steps:
            self._compare(step, self._last.get(self._config.metric_for_best_model))
        return {name: value for name, value in self._last.items() if value is not None}

    @property
    def stopped(self) -> bool:
        """Whether training is to end here."""
        return self._progress.stopped_at_step is not None

    def state(self) -> dict[str, Any]:
        """For `SavedStates.save`: what a resumed run goes on with."""
        return {"held_out": asdict(self._progress)}

    def restore(self, extra: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self._progress = _Progress(**extra.get("held_out", {}))

    def finish(self) -> Figures:
        """Metrics of the model that is to be published; the best weights are put into it where the config wants them."""
        found, config = self._progress, self._config
        if not config.eval_steps or self._evaluate is None:
            return self._last
        best: Figures = {"best_step": found.best_step, f"best_{config.metric_for_best_model}": found.best_value}
        if config.early_stopping_patience:
            best["stopped_at_step"] = found.stopped_at_step
        if config.load_best_model_at_end and self._load_best():
            return {**found.best_metrics, **best}
        return {**self._last, **best}

    def _compare(self, step: int, value: float | None) -> None:
        found, name = self._progress, self._config.metric_for_best_model
        if value is None:
            return
        better = value == value and (  # a value that is not a number is never better
            found.best_value is None or (value > found.best_value if self._config.greater_is_better else value < found.best_value)
        )
        if better:
            found.best_step, found.best_value, found.best_metrics, found.without_better = step, value, dict(self._last), 0
            self._keep(step)
            return
        found.without_better += 1
        patience = self._config.early_stopping_patience
        if patience and found.without_better >= patience:
            found.stopped_at_step = step
            print(
                f"stopped early after step {step}: {name} was {found.best_value} after step {found.best_step}, no better since", flush=True
            )

    def _keep(self, step: int) -> None:
        weights = {name.removeprefix(WEIGHTS): value for name, value in whole_state(self._engine).items() if name.startswith(WEIGHTS)}
        if group.is_main():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._file.with_name(".temporary")
            save_file(weights, temporary, metadata={"best": json.dumps({"step": step, "metrics": self._last})})
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self._file)
        group.barrier()

    def _load_best(self) -> bool:
        """Put the best weights into the engine; False where the file is not that of the best step."""
        step = self._progress.best_step
        if step is None:
            self._run.warn("there was nothing to evaluate on, so the last model is published and not the best one")
            return False
        with safe_open(self._file, framework="pt") as file:
            kept = json.loads(file.metadata()["best"])["step"]
            weights = {f"{WEIGHTS}{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if kept != step:  # another number of processes went on, and came out a rounding apart
            self._run.warn(f"the kept weights are of step {kept}, the best step was {step}: the last model is published")
            return False
        self._engine.load_parts(reader_of({**whole_state(self._engine), **weights}))
        return True
