"""The data that a run sends to an experiment tracker, and the interface of all trackers."""

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
    """A run, as sent to a tracker.

    Attributes:
        name: The recipe's name.
        id: Id of the record in the store.
        parameters: Place of the recipe -> value.
    """

    name: str
    id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class TrackedStep:
    """A finished step.

    Attributes:
        name: The step's name.
        points: Points of its curves; each has `step`.
        metrics: The measured metrics of its manifest.
        key: Key of its artifact.
        digest: Digest of its artifact.
        cached: Whether it was found in the store: another run trained it.
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
    """A run at a tracker; constructing it starts the run. Its methods raise the client's errors."""

    def __init__(self, config: TrackingConfig, run: TrackedRun): ...

    def step(self, step: TrackedStep) -> None:
        """Send a finished step."""

    def end(self, state: State) -> None:
        """Send pending data and close the run."""

    def where(self) -> str:
        """Where to find the run."""


def check_tracker(config: TrackingConfig | None) -> None:
    """Raise UserError if the recipe's tracker cannot be used from here; makes no request."""
    if config is None:
        return
    if not is_installed(config.name):
        raise UserError(
            f"{config.name} is not installed",
            where="tracking.name",
            do=f"pip install 'alignflow[{config.name}]', or remove tracking from the recipe",
        )
    if config.name == "wandb" and config.mode == "online" and not os.environ.get(WANDB_KEY):
        raise UserError(
            f"{WANDB_KEY} is not set",
            where="tracking",
            do=f"export {WANDB_KEY} before you start the run, or set tracking.mode to offline",
        )


def open_tracker(config: TrackingConfig, run: TrackedRun) -> Tracker:
    """Start a run at the recipe's tracker; raises the client's errors."""
    module, _, name = ADDRESSES[config.name].partition(":")
    made: Tracker = getattr(importlib.import_module(module), name)(config, run)
    return made
