"""What a run tells an experiment tracker, and what every tracker can do."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.data.errors import UserError
from alignflow.tasks.launch.installed import is_installed

ADDRESSES: Mapping[str, str] = {
    "mlflow": "alignflow.tasks.trackers.mlflow_tracker:MLflowTracker",
    "wandb": "alignflow.tasks.trackers.wandb_tracker:WandbTracker",
}
WANDB_KEY = "WANDB_API_KEY"
State = Literal["finished", "failed", "killed"]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker gets it.

    Attributes:
        name: The recipe's name.
        id: Of the record in the store.
        parameters: Place of the recipe -> value.
    """

    name: str
    id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class TrackedStep:
    """A step that was found or made.

    Attributes:
        name: As the run calls it.
        points: Of its curves; each has `step`.
        metrics: Those of its manifest that were measured.
        key: Of its artifact.
        digest: Of its artifact.
        cached: Whether it was found in the store, so that another run trained it.
    """

    name: str
    points: Sequence[Mapping[str, float]]
    metrics: Mapping[str, float]
    key: str
    digest: str
    cached: bool

    @property
    def tags(self) -> dict[str, str]:
        """What the artifact is."""
        cached = "yes" if self.cached else "no"
        return {f"{self.name}.artifact": self.key, f"{self.name}.digest": self.digest, f"{self.name}.cached": cached}


class Tracker(Protocol):
    """A run at a tracker, which begins when it is made. Its methods raise whatever the client raises."""

    def __init__(self, config: TrackingConfig, run: TrackedRun): ...

    def step(self, step: TrackedStep) -> None:
        """Send what a step left."""

    def end(self, state: State) -> None:
        """Send what waits, and close the run."""

    def where(self) -> str:
        """Where a person finds it."""


def check_tracker(config: TrackingConfig | None) -> None:
    """Raise UserError where the tracker that a recipe names cannot be used from here; asks nobody."""
    if config is None:
        return
    if not is_installed(config.name):
        raise UserError(
            f"{config.name} is not installed",
            where="tracking.name",
            do=f"pip install 'alignflow[{config.name}]', or leave tracking out of the recipe",
        )
    if config.name == "wandb" and config.mode == "online" and not os.environ.get(WANDB_KEY):
        raise UserError(
            f"{WANDB_KEY} is not set",
            where="tracking",
            do=f"export {WANDB_KEY} before you start the run, or set tracking.mode to offline",
        )


def open_tracker(config: TrackingConfig, run: TrackedRun) -> Tracker:
    """Begin a run at the tracker of a recipe; raises whatever its client raises."""
    module, _, name = ADDRESSES[config.name].partition(":")
    made: Tracker = getattr(importlib.import_module(module), name)(config, run)
    return made
