"""Costs of earlier runs: figures in the manifests of the same stage on the same device, for a model of about this size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alignflow.data.artifacts import Manifest
from alignflow.data.estimate.shapes import read_shape
from alignflow.tasks.store.artifact_store import ArtifactStore

MODEL_INPUTS = ("base", "policy", "aligned", "reward_model")
MOST_SCALE = 4.0
"""Up to this many times the work of an earlier run, time is assumed proportional to work without further evidence."""
SCALE_PER_SECOND = 20.0
"""Beyond that, the allowed factor grows by this for each second that the earlier run worked after its start."""


@dataclass(frozen=True)
class EarlierRun:
    """The cost of one artifact.

    Attributes:
        wall_s: Seconds.
        tokens: Tokens that the stage counted; None if it counts none.
        parameters: Weights of its model; None if unknown.
        startup_s: Seconds before its first progress; None if its alignflow version did not measure them.
    """

    wall_s: float
    tokens: float | None
    parameters: int | None
    startup_s: float | None = None

    def seconds(self, tokens: float, parameters: int | None) -> float | None:
        """Time for `tokens` tokens of a model of `parameters` weights: the startup plus work proportional to both.

        None if the earlier run is not enough evidence: it counted no tokens, or was too short for so much more work.
        """
        if not self.tokens:
            return None
        startup = self.startup_s or 0.0
        work = max(self.wall_s - startup, 0.0)
        scale = tokens / self.tokens * (parameters / self.parameters if parameters and self.parameters else 1.0)
        if scale > (MOST_SCALE if self.startup_s is None else max(MOST_SCALE, work * SCALE_PER_SECOND)):
            return None
        return startup + work * scale


def nearest_run(
    store: ArtifactStore, stage: str, device: str, parameters: int | None, method: str | None = None
) -> EarlierRun | None:
    """The run of this stage, method and device with the model nearest in size by ratio, the newest of equals; None if there is none."""
    found = [
        EarlierRun(wall, manifest.cost.get("tokens"), parameters_of(manifest, store), manifest.cost.get("startup_s"))
        for manifest in store.manifests(stage)
        if manifest.runtime.get("device") == device
        and manifest.config.get("method") == method
        and (wall := manifest.cost.get("wall_s")) is not None
    ]
    return min(found, key=lambda run: _distance(run.parameters, parameters), default=None)


def parameters_of(manifest: Manifest, store: ArtifactStore) -> int | None:
    """Number of weights of the model that an artifact is or was made from."""
    keys = [manifest.key, *(manifest.inputs[name].key for name in MODEL_INPUTS if name in manifest.inputs)]
    for key in keys:
        shape = read_shape(store.directory(key) / "payload")
        if shape is not None:
            return shape.parameters
    return None


def _distance(one: int | None, other: int | None) -> float:
    """Distance in size; a run with an unknown model is farther than any other."""
    return abs(math.log(one / other)) if one and other else math.inf
