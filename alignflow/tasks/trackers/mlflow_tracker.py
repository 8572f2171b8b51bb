"""Sends runs to MLflow with its own client."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.data.logins import without_logins
from alignflow.tasks.trackers.base import State, TrackedRun, TrackedStep

MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""MLflow's limits for one request."""
QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Defaults with which a missing server is reported after one minute, not many; the user's settings take precedence."""
ENDED = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_NO_NAME = re.compile(r"[^\w\-. :/]")


class MLflowTracker:
    """One run of an experiment. Curves are `STEP/METRIC`, metrics of artifacts `final/STEP/METRIC`."""

    def __init__(self, config: TrackingConfig, run: TrackedRun):
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
        for name, value in QUICK.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.entities import Param

        self._client: Any = mlflow.MlflowClient(tracking_uri=config.uri)
        self._project = config.project
        self._uri = config.uri or mlflow.get_tracking_uri()
        tags = {"alignflow.run": run.id}
        self._run = self._client.create_run(self._experiment(), run_name=run.name, tags=tags).info.run_id
        parameters = [Param(_name(name), value) for name, value in run.parameters.items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self._run, params=parameters[start : start + MOST_PARAMETERS])

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._project)
        if found is None:
            try:
                return str(self._client.create_experiment(self._project))
            except MlflowException:  # another run has just created it
                found = self._client.get_experiment_by_name(self._project)
                if found is None:
                    raise
        return str(found.experiment_id)

    def step(self, step: TrackedStep) -> None:
        """Send a finished step."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, number) for name, value, number in _values(step)]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MOST_METRICS])
        self._client.log_batch(self._run, tags=[RunTag(_name(name), text) for name, text in step.tags.items()])

    def end(self, state: State) -> None:
        """Close the run."""
        self._client.set_terminated(self._run, status=ENDED[state])

    def where(self) -> str:
        """Where to find the run."""
        return f"mlflow, {without_logins(self._uri)}, experiment {self._project}, run {self._run}"


def _values(step: TrackedStep) -> Iterator[tuple[str, float, int]]:
    """(name, value, training step) of everything that a step measured."""
    for point in step.points:
        for name, value in _figures(point).items():
            yield f"{step.name}/{name}", value, int(point["step"])
    for name, value in step.metrics.items():
        yield f"final/{step.name}/{name}", value, 0


def _figures(point: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in point.items() if name != "step"}


def _name(text: str) -> str:
    """A name with only the characters that MLflow accepts."""
    return _NO_NAME.sub("_", text)
