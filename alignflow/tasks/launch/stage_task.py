"""One cached Prefect task per stage of the catalogue."""

from __future__ import annotations

from typing import Any

from prefect import Task, get_run_logger, task
from prefect.states import Completed, State

from alignflow.data import catalogue
from alignflow.tasks.keys.cache import StageKeyPolicy, StoreKeyStorage
from alignflow.tasks.launch.call import StageCall, StageResult
from alignflow.tasks.launch.shard_task import run_shards
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore


def stage_task(stage: str, store: ArtifactStore, force: bool = False, found: bool = False) -> Task[..., Any]:
    """The Prefect task of a stage on a store; a call whose artifact is intact ends in the state `Cached`.

    Args:
        stage: A name of the catalogue.
        store: The store of artifacts.
        force: Run the stage even if the artifact exists.
        found: Whether the artifact exists: the run's name says so, because a graph of runs shows no states.
    """
    results = store.root / "prefect" / "results"
    results.mkdir(mode=0o700, parents=True, exist_ok=True)
    policy = StageKeyPolicy().configure(
        key_storage=StoreKeyStorage(
            basepath=str(store.root / "prefect" / "keys"), store_root=str(store.root), results=str(results)
        )
    )

    @task(
        name=stage,
        task_run_name="{call.name} {call.short_key}" + (" cached" if found else ""),
        description=catalogue.STAGES[stage].summary,
        cache_policy=policy,
        result_storage=results,
        result_serializer="json",
        persist_result=True,
        cache_result_in_memory=False,
        refresh_cache=force,
        retries=0,
    )
    def run_stage_task(call: StageCall) -> dict[str, Any] | State[Any]:
        ref, ran = run_stage(call, store, force, get_run_logger().warning, run_shards)
        value = StageResult(ref=ref, ran=ran).model_dump()
        return value if ran else Completed(name="Cached", message="another run made it meanwhile", data=value)

    return run_stage_task


def run_as_task(call: StageCall, store: ArtifactStore, force: bool = False, found: bool = False) -> StageResult:
    """Run a call as a task of the current flow; raises the stage's error."""
    value = stage_task(call.stage, store, force, found)(call)
    # A task that returns a named state yields that state, not its data.
    return StageResult.model_validate(value.result() if isinstance(value, State) else value)
