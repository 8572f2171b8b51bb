"""Flows for a worker of `alignflow up`: one says where it ran, one works for a while. Run as a program, deploys both."""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency


@flow
def note(path: str) -> None:
    """Write down where this runs."""
    Path(path).write_text(json.dumps({"directory": os.getcwd(), "store": os.environ["ALIGNFLOW_HOME"], "pid": os.getpid()}))


@task
def step() -> None:
    """Do nothing for a second, and tell the log and the terminal."""
    time.sleep(1)
    print("step", flush=True)


@flow
def hold(path: str, until: str, slot: str = "") -> None:
    """Write down the process, then work until a file is there; under a lease where a slot is named."""
    with concurrency(slot, occupy=1, lease_duration=60) if slot else nullcontext():
        Path(path).write_text(str(os.getpid()))
        while not Path(until).exists():
            step()


if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("slot", 1)
    for name in ("note", "hold"):
        loaded = flow.from_source(source=str(Path(__file__).parent), entrypoint=f"{Path(__file__).name}:{name}")
        loaded.deploy(name, work_pool_name=sys.argv[1], build=False, push=False, print_next_steps=False, ignore_warnings=True)
