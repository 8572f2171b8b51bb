"""What earlier runs cost: the manifests' figures of the same stage on the same device, for a model of about this size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alignflow.data.artifacts import Manifest
from alignflow.data.estimate.shapes import read_shape
from alignflow.tasks.store.artifact_store import ArtifactStore

MODEL_INPUTS = ("base", "policy", "aligned", "reward_model")
MOST_SCALE = 4.0
"""Most times more work than an earlier run did for which its time is taken as proportional without further evidence."""
SCALE_PER_SECOND = 20.0
"""Beyond that: so many times more work for each second that the earlier run worked after its start."""


@dataclass(frozen=True)
class EarlierRun:
    """The cost of one artifact.

    Attributes:
        wall_s: Seconds.
        tokens: Tokens that it counted; None for a stage that counts none.
        parameters: Weights of its model; None where unknown.
        startup_s: Seconds before its first progress; None where its alignflow did not measure them.
    """

    wall_s: float
    tokens: float | None
    parameters: int | None
    startup_s: float | None = None

    def seconds(self, tokens: float, parameters: int | None) -> float | None:
        """Time for `tokens` tokens of a model of `parameters` weights: the start, and work that is proportional to both.

        None where the earlier run says too little: it counted no tokens, or was too short for so much more work.
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
    """The run of this stage, method and device whose model is nearest in size, by ratio; the newest of equals; None without one."""
    found = [
        EarlierRun(wall, manifest.cost.get("tokens"), parameters_of(manifest, store), manifest.cost.get("startup_s"))
        for manifest in store.manifests(stage)
        if manifest.runtime.get("device") == device
        and manifest.config.get("method") == method
        and (wall := manifest.cost.get("wall_s")) is not None
    ]
    return min(found, key=lambda run: _distance(run.parameters, parameters), default=None)


def parameters_of(manifest: Manifest, store: ArtifactStore) -> int | None:
    """Weights of the model that an artifact is, or was made from."""
    keys = [manifest.key, *(manifest.inputs[name].key for name in MODEL_INPUTS if name in manifest.inputs)]
    for key in keys:
        shape = read_shape(store.directory(key) / "payload")
        if shape is not None:
            return shape.parameters
    return None


def _distance(one: int | None, other: int | None) -> float:
    """A run whose model is unknown is farther than any other."""
    return abs(math.log(one / other)) if one and other else math.inf
