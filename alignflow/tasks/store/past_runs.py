"""What earlier runs cost: the manifests' figures of the same stage on the same device, for a model of about this size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alignflow.data.artifacts import Manifest
from alignflow.data.estimate.shapes import read_shape
from alignflow.tasks.store.artifact_store import ArtifactStore

MODEL_INPUTS = ("base", "policy", "aligned", "reward_model")


@dataclass(frozen=True)
class EarlierRun:
    """The cost of one artifact.

    Attributes:
        wall_s: Seconds.
        tokens_per_s: Tokens that it counted, per second; None for a stage that counts none.
        parameters: Weights of its model; None where unknown.
    """

    wall_s: float
    tokens_per_s: float | None
    parameters: int | None

    def seconds(self, tokens: float, parameters: int | None) -> float | None:
        """Time for `tokens` tokens of a model of `parameters` weights, taking time as proportional to both."""
        if not self.tokens_per_s:
            return None
        scale = parameters / self.parameters if parameters and self.parameters else 1.0
        return tokens / self.tokens_per_s * scale


def nearest_run(
    store: ArtifactStore, stage: str, device: str, parameters: int | None, method: str | None = None
) -> EarlierRun | None:
    """The run of this stage, method and device whose model is nearest in size, by ratio; the newest of equals; None without one."""
    found = [
        EarlierRun(wall, manifest.cost.get("tokens_per_s"), parameters_of(manifest, store))
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
