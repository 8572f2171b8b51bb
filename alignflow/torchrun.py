"""Runs the processes of a training stage under torchrun, and makes one result or one error of what they leave.

torchrun starts each process in a session of its own, so that killing its group would not reach them: each asks the
kernel to die with it (`alignflow.worker`), and it dies with the supervisor of the stage in the same way.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from alignflow.data import errors
from alignflow.data.errors import AlignflowError, StageError
from alignflow.data.run import Runtime, write_whole

START = Path(__file__).with_name("start.py")
PARENT = "ALIGNFLOW_TORCHRUN"  # environment variable: the process that a rank must be a child of
LOOPBACK = ("localhost", "127.0.0.1")
# What a process says when it is another one that ended: true, and of no use to a person.
SECONDARY = (
    "connection closed by peer",
    "connection reset by peer",
    "gloo",
    "nccl",
    "broken pipe",
    "socket",
    "store",
    "timed out",
)


def run_processes(spec_path: Path, spec: dict[str, Any], runtime: Runtime) -> int:
    """Run `alignflow.worker SPEC` in every process of this node; returns the exit status of the stage.

    Node 0 leaves `result.json` or `error.json` beside the spec. torchrun's own messages go to the log.
    """
    if runtime.nodes == 1 or (runtime.rendezvous or "").rpartition(":")[0] in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ[PARENT] = str(os.getpid())
    ended: dict[int, int] = {}
    try:
        importlib.import_module("torch.distributed.run").main(arguments(spec_path, spec, runtime))
    except Exception as error:  # noqa: BLE001 (torchrun's own; which process failed, and why, is told below)
        print(f"torchrun: {type(error).__name__}", flush=True)
        ended = {rank: failure.exitcode for rank, failure in getattr(error, "failures", {}).items()} or {-1: 1}
    if runtime.node_rank > 0:
        return 1 if ended else 0
    if ended:
        failure = first_failure(spec_path.parent, spec["stage"], runtime, ended)
        write_whole(spec_path.with_name("error.json"), errors.to_json(failure))
        return failure.exit_status
    write_whole(spec_path.with_name("result.json"), joined_result(spec_path.parent, runtime))
    return 0


def arguments(spec_path: Path, spec: dict[str, Any], runtime: Runtime) -> list[str]:
    """What torchrun is told: a free loopback port on one node, the rendezvous of the recipe on several."""
    alone = runtime.nodes == 1
    place = "localhost:0" if alone else str(runtime.rendezvous)
    found = [
        f"--nnodes={runtime.nodes}",
        f"--nproc-per-node={runtime.processes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={place}",
        f"--rdzv-id={spec['launch']}",
        "--max-restarts=0",
    ]
    if not alone:
        found += [f"--node-rank={runtime.node_rank}", f"--rdzv-conf=is_host={int(runtime.node_rank == 0)}"]
    if place.rpartition(":")[0] in LOOPBACK:
        found.append("--local-addr=127.0.0.1")
    return [
        *found,
        str(START),
        "alignflow.worker",
        str(spec_path),
    ]  # the environment has PYTHONSAFEPATH: torchrun cannot pass -P on


def first_failure(area: Path, stage: str, runtime: Runtime, ended: dict[int, int]) -> AlignflowError:
    """The error that a person should read: the first that a process raised by itself, not because another one was gone.

    Args:
        area: Where the processes left `error-RANK.json`.
        stage: For messages.
        runtime: How many processes there are.
        ended: Exit status of the processes that torchrun saw fail, negative for a signal.
    """
    raised = [json.loads(path.read_text()) for path in sorted(area.glob("error-*.json"))]
    raised.sort(key=lambda found: found["time"])
    for found in raised:
        if not is_secondary(found["error"]):
            return errors.from_json(found["error"])
    killed = {
        rank: status for rank, status in ended.items() if status < 0 and rank >= 0 and status != -signal.SIGTERM
    }  # torchrun's own
    if killed:
        rank, status = min(killed.items())
        return StageError(
            f"process {rank} of {runtime.world_size} was killed by signal {-status} and left no result",
            where=stage,
            do="out of memory? A rerun goes on from its last checkpoint",
        )
    if raised:
        return errors.from_json(raised[0]["error"])
    return StageError(
        f"its {runtime.world_size} processes ended without a result",
        where=stage,
        do="did a node or a process end, or was the rendezvous not reached? The end of the log says more",
    )


def is_secondary(error: dict[str, str]) -> bool:
    """Whether an error only says that another process was gone."""
    return error["type"] == "StageError" and any(words in error["what"].lower() for words in SECONDARY)


def joined_result(area: Path, runtime: Runtime) -> dict[str, Any]:
    """The result of the first process, with the CPU and GPU seconds and the peak memory of all of them."""
    results = [json.loads((area / f"result-{rank:05d}.json").read_text()) for rank in range(runtime.world_size)]
    costs = [result["cost"] for result in results]
    summed = {
        name: None if costs[0][name] is None else sum(cost[name] for cost in costs)
        for name in ("cpu_s", "gpu_s", "peak_memory_mb")
    }
    return {**results[0], "cost": {**costs[0], **summed}}
