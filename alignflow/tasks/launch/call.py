"""A stage call that is ready to run: everything that its task needs, in a few kB of JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.run import Runtime


class Sharding(BaseModel):
    """The processes that compute a stage's rows before the stage itself reads them, and their task runner; not part of a key.

    Attributes:
        shards: Number of processes; 1: no shards.
        task_runner: local or dask.
        dask_address: Address of a scheduler; empty: a new cluster on this machine.
        threads: CPU threads of each process; 0: as for a stage on that machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int = 1
    task_runner: str = "local"
    dask_address: str = ""
    threads: int = 0


class StageCall(BaseModel):
    """The one parameter of a stage task.

    Attributes:
        name: Name of the step; the step `sft` uses the stage `init` if the user brings the model.
        stage: A name of the catalogue.
        config: The stage's validated config as JSON.
        inputs: References to its inputs.
        runtime: Resolved device, precision, engine.
        key: Its cache key, computed before the call; `components` is what the key was computed from.
        timeout_s: Seconds after which the stage is stopped; None: never.
        sharding: How its rows are split into shards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    stage: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef]
    runtime: Runtime
    key: str
    components: dict[str, Any]
    timeout_s: float | None = None
    sharding: Sharding = Sharding()

    @property
    def short_key(self) -> str:
        """The first eight digits of the key, for display."""
        return self.key.rpartition("-")[2][:8]


class StageResult(BaseModel):
    """Result of a stage task: the reference, and whether the artifact was found or made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: ArtifactRef
    ran: bool
