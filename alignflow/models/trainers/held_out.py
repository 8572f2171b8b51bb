"""Evaluation while a model trains: at which steps, the best step, its weights on disk, and early stopping."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.errors import StoreError
from alignflow.data.run import Run
from alignflow.data.seals import DIRECTORY_SEAL, seal_directory
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine
from alignflow.models.trainers.saved_state import (
    StateReader,
    damaged_files,
    gathered_digests,
    share_of,
    sync,
    write_parts,
)

BEST = "best"
WEIGHTS, ENGINE = "weights/", "weights"

Figures = dict[str, float | None]
Evaluate = Callable[[], Mapping[str, float | None]]
"""Metrics of the current model on held-out rows, named `eval_...`; every process calls it."""


@dataclass
class _Progress:
    """State of the evaluations so far, for a resumed run; JSON."""

    best_step: int | None = None
    best_value: float | None = None
    best_metrics: Figures = field(default_factory=dict)
    without_better: int = 0  # evaluations in a row
    stopped_at_step: int | None = None


class HeldOut:
    """Evaluates at the steps that the config names and at the end; keeps the best weights in `run.work`/best.

    The weights are in a directory that a rename commits, `step-00000012`, so that they survive a kill and are never
    half-written; every process writes its shard. All processes use the main process's measurements.

    Args:
        evaluate: None if there is nothing to evaluate on: then there is no best step and no early stopping.
        engine: The engine of the weights.
        config: eval_steps, metric_for_best_model, load_best_model_at_end, early_stopping_patience.
        run: Has the directory of the best weights, and gets warnings.
    """

    def __init__(self, evaluate: Evaluate | None, engine: Engine, config: TrainingConfig, run: Run):
        self._evaluate, self._engine, self._config, self._run = evaluate, engine, config, run
        self._root = run.work / BEST
        self._progress = _Progress()
        self._last: Figures = {}

    def due(self, step: int, total: int) -> bool:
        """Whether to evaluate after `step` of `total` steps."""
        every = self._config.eval_steps
        return self._evaluate is not None and (step == total or bool(every and step % every == 0))

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate after `step` steps, keep the weights if they are the best so far; returns the figures."""
        assert self._evaluate is not None
        self._last = group.gather(dict(self._evaluate()))[0]
        if self._config.eval_steps:
            self._compare(step, self._last.get(self._config.metric_for_best_model))
        return {name: value for name, value in self._last.items() if value is not None}

    @property
    def stopped(self) -> bool:
        """Whether training must end here."""
        return self._progress.stopped_at_step is not None

    def state(self) -> dict[str, Any]:
        """For `SavedStates.save`: the state for a resumed run."""
        return {"held_out": asdict(self._progress)}

    def restore(self, extra: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        self._progress = _Progress(**extra.get("held_out", {}))

    def has_best_of(self, extra: Mapping[str, Any]) -> bool:
        """Whether training can continue from a state: the weights of the best step before it are not damaged. Every process calls it.

        If they are damaged, training continues from a state before that step, or starts again, and makes them again.
        """
        step = _Progress(**extra.get("held_out", {})).best_step
        if step is None or not self._config.load_best_model_at_end:
            return True
        directory = self._root / f"step-{step:08d}"
        damaged = group.anywhere(directory.is_dir() and bool(damaged_files(directory)))
        if damaged and group.is_main():
            self._run.note(
                f"the kept weights of step {step} are damaged: training continues from before that step and makes them again"
            )
        return not damaged

    def finish(self) -> Figures:
        """Metrics of the model that is to be published; with the best weights loaded if the config asks for them."""
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
        better = value == value and (  # NaN is never better
            found.best_value is None
            or (value > found.best_value if self._config.greater_is_better else value < found.best_value)
        )
        if better:
            found.best_step, found.best_value, found.best_metrics, found.without_better = (
                step,
                value,
                dict(self._last),
                0,
            )
            self._keep(step)
            return
        found.without_better += 1
        patience = self._config.early_stopping_patience
        if patience and found.without_better >= patience:
            found.stopped_at_step = step
            print(
                f"stopped early after step {step}: {name} was {found.best_value} after step {found.best_step}, no better since",
                flush=True,
            )

    def _keep(self, step: int) -> None:
        temporary, final = self._root / ".temporary", self._root / f"step-{step:08d}"
        if group.is_main():
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        group.barrier()
        weights = {name: part for name, part in self._engine.parts().items() if name.startswith(WEIGHTS)}
        write_parts(weights, share_of(temporary, ENGINE, group.rank()))
        digests = gathered_digests([share_of(temporary, ENGINE, group.rank())])
        if group.is_main():
            seal_directory(temporary, digests)
            sync(temporary / DIRECTORY_SEAL)
            sync(temporary)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temporary, final)
            sync(self._root)
            for other in set(self._root.glob("step-*")) - {final}:
                shutil.rmtree(other, ignore_errors=True)
        group.barrier()

    def _load_best(self) -> bool:
        """Load the best weights into the engine, whose optimizer is reset; False if the weights of the best step are missing."""
        step = self._progress.best_step
        if step is None:
            self._run.warn("there was nothing to evaluate on, so the last model is published and not the best one")
            return False
        directory = self._root / f"step-{step:08d}"
        if group.anywhere(not directory.is_dir()):  # another number of processes continued, with other rounding
            kept = ", ".join(sorted(path.name for path in self._root.glob("step-*"))) or "none"
            self._run.warn(f"the kept weights are of {kept}, the best step was {step}: the last model is published")
            return False
        if group.anywhere(bool(damaged_files(directory))):
            raise StoreError(
                f"the kept weights of step {step}, the best one, are damaged",
                where=str(directory),
                do="run the recipe again: training continues from before that step",
            )
        with StateReader(directory, ENGINE) as reader:
            self._engine.load_parts(
                lambda name, start, stop: (
                    reader.read(name, start, stop) if name.startswith(WEIGHTS) else torch.zeros(stop - start)
                )
            )
        return True
