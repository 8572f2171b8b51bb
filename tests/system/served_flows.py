"""Flows for a worker of `alignflow up`: one says where it ran, one works for a while, one waits for a person. Run as a program, deploys both."""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.flow_runs import suspend_flow_run


@flow
def note(path: str) -> None:
    """Write down where this runs."""
    Path(path).write_text(
        json.dumps({"directory": os.getcwd(), "store": os.environ["ALIGNFLOW_HOME"], "pid": os.getpid()})
    )


@flow
def hold(path: str, until: str, slot: str = "") -> None:
    """Write down the process, then work until a file is there; under a lease where a slot is named.

    It calls no task: the only events that the server has of it are its heartbeats, as with a stage that takes hours.
    """
    with concurrency(slot, occupy=1, lease_duration=60) if slot else nullcontext():
        Path(path).write_text(str(os.getpid()))
        while not Path(until).exists():
            time.sleep(1)
            get_run_logger().info("step")


@flow
def ask() -> None:
    """Wait for a person, without a process."""
    suspend_flow_run()


if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("slot", 1)
    for name in ("note", "hold", "ask"):
        loaded = flow.from_source(source=str(Path(__file__).parent), entrypoint=f"{Path(__file__).name}:{name}")
        loaded.deploy(
            name, work_pool_name=sys.argv[1], build=False, push=False, print_next_steps=False, ignore_warnings=True
        )
