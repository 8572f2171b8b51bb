"""Shards as Prefect tasks: on this machine in a pool of threads that each wait for a process, or on Dask workers.

Dask is imported only here, and only if a recipe asks for it.
"""

from __future__ import annotations

import contextlib
import logging
from asyncio import CancelledError
from collections.abc import Iterator
from typing import Any

from prefect import Flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from alignflow.data.errors import AlignflowError, StageError, UserError
from alignflow.tasks.launch.call import Sharding, StageCall
from alignflow.tasks.launch.shards import Shard, end, fill_shard, follow, plan_shards

LAST_WORDS_S = 20.0  # seconds that shards get to end


@task(
    name="shard",
    task_run_name="{shard[name]}",
    description="Computes a shard of a stage's rows and journals them.",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=0,
)
def run_shard(shard: dict[str, Any]) -> dict[str, Any]:
    """Run one shard on the machine of this task."""
    result = fill_shard(Shard.model_validate(shard))
    cost = result["cost"]
    get_run_logger().info("%s: %d rows in %.1f s on %s", shard["name"], cost["rows"], cost["wall_s"], result["host"])
    return result


def run_shards(call: StageCall, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Fill the row journal of a call with its shards, and return each shard's result; empty for one process.

    The first failure ends the others and is raised; rows that they committed stay.

    Raises:
        AlignflowError: a shard failed.
        UserError: Dask is not installed, or no scheduler answers.
    """
    shards = plan_shards(call, spec)
    if not shards:
        return []
    with task_runner(call.sharding) as runner:
        futures: list[Any] = []
        try:
            with portable_flow():
                futures += [runner.submit(run_shard, {"shard": shard.model_dump()}) for shard in shards]
            follow(shards, lambda: _over(futures))
            for future, shard in zip(futures, shards, strict=True):
                if future.wrapped_future.done() and (error := _error(future)):
                    raise _told(error, shard) from error
            return [future.result() for future in futures]
        finally:
            end(shards)
            for future in futures:
                with contextlib.suppress(Exception, CancelledError):
                    future.wait(LAST_WORDS_S)


def _over(futures: list[Any]) -> bool:
    """Whether all shards are done, or one has failed."""
    done = [future for future in futures if future.wrapped_future.done()]
    return len(done) == len(futures) or any(_error(future) for future in done)


def _error(future: Any) -> BaseException | None:
    """The error of a finished future; None if it has a result."""
    try:
        future.result(timeout=LAST_WORDS_S)
    except (Exception, CancelledError) as error:  # noqa: BLE001 (any error ends the stage)
        return error
    return None


def _told(error: BaseException, shard: Shard) -> AlignflowError:
    """A shard's failure as an AlignflowError."""
    if isinstance(error, AlignflowError):
        return error
    return StageError(
        f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        where=shard.name,
        do="a worker of the task runner may be lost; its committed rows stay: run the recipe again",
    )


@contextlib.contextmanager
def task_runner(sharding: Sharding) -> Iterator[TaskRunner[Any]]:
    """The started task runner of a recipe; raises UserError if Dask is missing or does not answer."""
    if sharding.task_runner == "local":
        pool: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=sharding.shards)
        with pool as started:
            yield started
        return
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise UserError(
            "prefect-dask is not installed", where="engine.task_runner", do="pip install 'alignflow[dask]'"
        ) from error
    if sharding.dask_address:
        runner = DaskTaskRunner(address=sharding.dask_address)
    else:
        # A dashboard would listen on all addresses of the machine, without a login.
        place = {"host": "127.0.0.1", "dashboard_address": None, "silence_logs": logging.ERROR}
        runner = DaskTaskRunner(cluster_kwargs={"n_workers": sharding.shards, "threads_per_worker": 1, **place})
    with runner:
        try:
            runner.client  # noqa: B018 (connects)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers ({error})",
                where=f"engine.dask_address={sharding.dask_address}",
                do="start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`",
            ) from error
        yield runner


def _carried() -> None:
    """Placeholder for the flow's function on another machine, which runs a task of the flow but never the flow."""


@contextlib.contextmanager
def portable_flow() -> Iterator[None]:
    """Allow tasks of a flow whose function cannot be pickled, because it may hold a terminal and locks."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        yield
        return
    carried = Flow(_carried, name=context.flow.name, persist_result=False)
    with context.model_copy(update={"flow": carried}):
        yield
