"""Sends runs to Weights & Biases with its own client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.tasks.trackers.base import State, TrackedRun, TrackedStep


class WandbTracker:
    """One run of a project. Curves are `STEP/METRIC` over `STEP/step`, metrics of artifacts `final/STEP/METRIC` of the summary.

    The client sends nothing else: no code, no console output, no data about the machine, no error reports.
    """

    def __init__(self, config: TrackingConfig, run: TrackedRun):
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when it is imported
        import wandb

        if config.directory:
            Path(config.directory).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            save_code=False,
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            init_timeout=60,
            login_timeout=20,
        )
        self._run: Any = wandb.init(
            project=config.project,
            name=run.name,
            mode=config.mode,
            dir=config.directory,
            config={**run.parameters, "alignflow.run": run.id},
            settings=settings,
            reinit="create_new",
        )
        self._offline = config.mode == "offline"

    def step(self, step: TrackedStep) -> None:
        """Send a finished step."""
        axis = f"{step.name}/step"
        self._run.define_metric(axis, hidden=True)
        self._run.define_metric(f"{step.name}/*", step_metric=axis)
        for point in step.points:
            self._run.log({f"{step.name}/{name}": value for name, value in point.items()})
        self._run.summary.update({f"final/{step.name}/{name}": value for name, value in step.metrics.items()})
        self._run.config.update(step.tags, allow_val_change=True)

    def end(self, state: State) -> None:
        """Send pending data and close the run."""
        self._run.finish(exit_code=0 if state == "finished" else 1)

    def where(self) -> str:
        """Where to find the run."""
        if self._offline:
            return f"wandb, send it with `wandb sync {Path(self._run.dir).parent}`"
        return f"wandb, {self._run.url}"
