"""One call of a stage, ready to run: everything that its task needs, in under a few kB of JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.run import Runtime


class Sharding(BaseModel):
    """How many processes compute a stage's rows before the stage itself takes them, and who runs them; no part of a key.

    Attributes:
        shards: Processes; 1: the stage alone.
        task_runner: local or dask.
        dask_address: A scheduler; empty: a cluster of its own on this machine.
        threads: CPU threads of each; 0: as for a stage on the machine that it comes to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int = 1
    task_runner: str = "local"
    dask_address: str = ""
    threads: int = 0


class StageCall(BaseModel):
    """The one parameter of a stage task.

    Attributes:
        name: What the run calls this step; `sft` may be done by the stage `init` where the user brings the model.
        stage: A name of the catalogue.
        config: The stage's validated config as JSON.
        inputs: References to what it takes.
        runtime: Resolved device, precision, engine.
        key: Its cache key, computed before the call, and `components`, what the key was computed from.
        timeout_s: Seconds after which it is stopped; None: never.
        sharding: How its rows are shared out.
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
        """The first eight digits of the key, as people read it."""
        return self.key.rpartition("-")[2][:8]


class StageResult(BaseModel):
    """What a stage task returns: the reference, and whether the work was found or done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: ArtifactRef
    ran: bool
