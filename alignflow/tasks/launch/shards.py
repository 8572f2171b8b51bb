"""The shards of a stage: processes that fill its row journal. Then the stage itself runs and finds every row there.

A shard needs no lock, publishes nothing and may die: its committed rows stay, and the stage computes missing rows
itself. A shard and the run that waits for it communicate only by small files in the store, so a
shard can run on another machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from alignflow.data.errors import StageError, UserError
from alignflow.data.run import Runtime, Share, write_whole
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.child import listening, progress_listener, run_child
from alignflow.tasks.launch.devices import devices_of, held, visible_devices
from alignflow.tasks.launch.runtime import default_threads

POLL_S = 0.2
STALE_LOOKS = 300  # polls without a heartbeat, about half a minute; counted, because a machine may have slept
LOGS = "*/*/side/log.txt"
"""Pattern of the logs of shards, below the directory from `launches_of`."""
_ALIVE, _ENDED, _KNOWN = "alive", "ended", "known.json"


class Shard(BaseModel):
    """A shard, in a few kB of JSON: everything that its process needs.

    Attributes:
        name: Name for display: `sample 3/8`.
        number: Its index, from 0.
        of: Number of shards.
        spec: Spec of the stage's worker; paths are the same on every machine.
        place: Directory of this launch, in the work area of the stage's key.
        threads: CPU threads; 0: as for a stage on that machine.
        timeout_s: Seconds after which the shard is stopped; None: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    number: int
    of: int
    spec: dict[str, Any]
    place: str
    threads: int
    timeout_s: float | None


def plan_shards(call: StageCall, spec: dict[str, Any]) -> list[Shard]:
    """The shards of a call; empty if unsharded. Call it while holding the lock of the key: it removes the files of an earlier launch."""
    count = call.sharding.shards
    if count == 1:
        return []
    launches = launches_of(Path(spec["work"]))
    shutil.rmtree(launches, ignore_errors=True)
    place = launches / uuid.uuid4().hex[:12]
    place.mkdir(mode=0o700, parents=True)
    # All shards must see the same missing rows, even if the first ones commit before the last one starts.
    write_whole(place / _KNOWN, sorted(name for name in os.listdir(spec["rows"]) if not name.startswith(".")))
    (place / _ALIVE).touch()
    return [
        Shard(
            name=f"{call.name} {number + 1}/{count}",
            number=number,
            of=count,
            spec=spec,
            place=str(place),
            threads=call.sharding.threads,
            timeout_s=call.timeout_s,
        )
        for number in range(count)
    ]


def launches_of(work: Path) -> Path:
    """Directory of the shards' files, in the work area of the stage's key."""
    return work / "shards"


def number_of(log: Path) -> int:
    """The number of the shard that wrote a log, from 1."""
    return int(log.parents[1].name.partition("-")[0]) + 1


def fill_shard(shard: Shard) -> dict[str, Any]:
    """Run a shard in its own process on this machine; returns its result and the host.

    Raises:
        AlignflowError: the shard failed, or nobody waits for it any more.
    """
    wanted = _Wanted(shard)
    wanted()
    # Each attempt has its own directory: a task runner may restart a shard whose first process still runs.
    area = Path(shard.place) / f"{shard.number}-{uuid.uuid4().hex[:8]}"
    for name in ("payload", "side"):
        (area / name).mkdir(mode=0o700, parents=True)
    runtime = placed(shard, Runtime.model_validate(shard.spec["runtime"]))
    share = Share(number=shard.number, of=shard.of, known=Path(shard.place) / _KNOWN)
    spec = {
        **shard.spec,
        "runtime": runtime.model_dump(),
        "share": share.model_dump(mode="json"),
        "work": str(area),
        "out": str(area / "payload"),
        "side": str(area / "side"),
    }
    with listening(None), held([runtime.gpu] if runtime.gpu else [], wanted) as locks:
        return {**run_child(shard.name, spec, area, shard.timeout_s, locks, wanted), "host": socket.gethostname()}


def placed(shard: Shard, runtime: Runtime) -> Runtime:
    """The runtime of a shard on this machine: its threads and its GPU, assigned in turn; raises UserError without a GPU."""
    changes: dict[str, Any] = {"threads": shard.threads or default_threads(1)}
    if runtime.device == "cuda":
        visible = visible_devices()
        if not visible:
            raise UserError(
                "device cuda, but no NVIDIA GPU is visible",
                where=f"{shard.name} on {socket.gethostname()}",
                do="start the workers of the task runner on machines with GPUs, or set engine.device: cpu",
            )
        if devices_of(shard.spec["stage"], runtime):
            changes["gpu"] = visible[shard.number % len(visible)]
    return runtime.model_copy(update=changes)


class _Wanted:
    """Raises StageError if the run that waits for a shard has ended or has sent no heartbeat for long."""

    def __init__(self, shard: Shard):
        self._shard, self._seen, self._looks = shard, 0, 0

    def __call__(self) -> None:
        place, moved = Path(self._shard.place), 0
        with contextlib.suppress(OSError):
            moved = (place / _ALIVE).stat().st_mtime_ns
        self._looks = self._looks + 1 if moved == self._seen else 0
        self._seen = moved
        if not moved or (place / _ENDED).exists() or self._looks > STALE_LOOKS:
            raise StageError(
                "ended: nobody waits for its rows any more", where=self._shard.name, do="run the recipe again"
            )


def follow(shards: list[Shard], over: Callable[[], bool]) -> None:
    """Until `over` is true, send heartbeats to the shards and report their summed progress to the listener."""
    place, listener, started, told = Path(shards[0].place), progress_listener.get(), time.monotonic(), None
    step = shards[0].name.rpartition(" ")[0]
    while not over():
        with contextlib.suppress(OSError):
            os.utime(place / _ALIVE)
        state = progress_of(shards, time.monotonic() - started)
        if listener and state and told != (state["done"], state["total"]):
            told = (state["done"], state["total"])
            listener(step, state)
        time.sleep(POLL_S)


def end(shards: list[Shard]) -> None:
    """Make shards that still run or have not started end without a result."""
    with contextlib.suppress(OSError):
        (Path(shards[0].place) / _ENDED).touch()


def progress_of(shards: list[Shard], elapsed_s: float) -> dict[str, Any] | None:
    """Summed progress of the started shards in the form of `Run.progress`; None before the first rows."""
    found = [state for shard in shards if (state := _latest(shard))]
    done, total = (sum(state[name] for state in found) for name in ("done", "total"))
    if not total:
        return None
    return {
        "done": done,
        "total": total,
        "unit": found[0]["unit"],
        "elapsed_s": round(elapsed_s, 1),
        "left_s": max((state["left_s"] for state in found if state["left_s"] is not None), default=None),
        "figures": {"shards": float(len(found))},
    }


def _latest(shard: Shard) -> dict[str, Any] | None:
    """Progress of a shard's newest attempt."""
    files = {}
    for path in Path(shard.place).glob(f"{shard.number}-*/side/progress.json"):
        with contextlib.suppress(OSError):
            files[path.stat().st_mtime_ns] = path
    with contextlib.suppress(OSError, ValueError, IndexError):
        return json.loads(files[max(files, default=0)].read_text()) if files else None
    return None


def with_costs(result: dict[str, Any], shares: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of a stage with the cost of its shards: work is summed, memory and time are those of the largest."""
    if not shares:
        return result
    costs = [share["cost"] for share in shares]
    names = dict.fromkeys(name for one in (result["cost"], *costs) for name in one)
    cost: dict[str, Any] = {
        name: _added(result["cost"].get(name), [other.get(name) for other in costs]) for name in names
    }
    for name in ("peak_memory_mb", "wall_s"):
        cost[name] = max(other[name] for other in costs)
    cost["startup_s"] = max((other["startup_s"] for other in costs if other.get("startup_s")), default=None)
    cost["peak_memory_mb"] = max(cost["peak_memory_mb"], result["cost"]["peak_memory_mb"])
    cost["wall_s"] += result["cost"]["wall_s"]
    cost["tokens_per_s"] = cost["tokens"] / cost["wall_s"] if cost["tokens"] and cost["wall_s"] > 0 else None
    notes = [note for share in (*shares, result) for note in share.get("notes", ())]
    return {**result, "cost": cost, "notes": list(dict.fromkeys(notes))}


def _added(value: float | None, others: list[float | None]) -> float | None:
    known = [number for number in (value, *others) if number is not None]
    return sum(known) if known else None
