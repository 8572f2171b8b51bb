"""The machine's resources: GPU memory, memory, free disk. Read from the driver and the kernel, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 2**20
GPU_TIMEOUT_S = 2.0
GPU_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
CGROUP = Path("/proc/self/cgroup")  # psutil does not read control groups
CGROUP_ROOT = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60  # cgroup v1 writes a huge number if there is no limit


@dataclass(frozen=True)
class Machine:
    """Resources that a run may use; None: unknown.

    Attributes:
        memory: Bytes of memory, or the control group's limit if lower.
        available: Bytes of it that are free now.
        gpus: Bytes of memory of each GPU that this process may see.
        free_disk: Free bytes in the store's file system.
    """

    memory: int | None = None
    available: int | None = None
    gpus: tuple[int, ...] = ()
    free_disk: int | None = None


def this_machine(store_root: Path, device: str) -> Machine:
    """This machine's resources; unknown values are None. GPUs are queried only if `device` is cuda, because it takes time."""
    total, available = memory_info()
    limit = cgroup_limit(CGROUP, CGROUP_ROOT)
    memory = min(found) if (found := [value for value in (total, limit) if value is not None]) else None
    if memory is not None and available is not None:
        available = min(available, memory)
    return Machine(memory, available, gpu_memory() if device == "cuda" else (), free_disk(store_root))


def memory_info() -> tuple[int | None, int | None]:
    """Total and available bytes of memory; None if the system does not say."""
    try:
        found = psutil.virtual_memory()
    except OSError:
        return None, None
    return found.total, found.available


def cgroup_limit(membership: Path, root: Path) -> int | None:
    """The lowest memory limit of this process's control groups, version 1 or 2; None without a limit."""
    limits = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        place = base / path.lstrip("/")
        for directory in (place, *place.parents):
            if not directory.is_relative_to(base):
                break
            limits.append(_number(directory / name))
    known = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    return min(known) if known else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def gpu_memory() -> tuple[int, ...]:
    """Bytes of memory of each GPU in CUDA_VISIBLE_DEVICES; empty if nvidia-smi does not answer."""
    try:
        done = subprocess.run(GPU_QUERY, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return visible(parse_gpus(done.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(text: str) -> list[tuple[str, str, int]]:
    """(index, UUID, bytes) of each line of nvidia-smi's output; other lines are skipped."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [(row[0], row[1], int(row[2]) * MIB) for row in rows if len(row) == 3 and row[2].isdigit()]


def visible(gpus: list[tuple[str, str, int]], selection: str | None) -> tuple[int, ...]:
    """Memory of the GPUs in a value of CUDA_VISIBLE_DEVICES (indices or UUID prefixes); of all GPUs for None."""
    if selection is None:
        return tuple(memory for _, _, memory in gpus)
    chosen = []
    for name in (part.strip() for part in selection.split(",")):
        found = [memory for index, uuid, memory in gpus if name and (index == name or uuid.startswith(name))]
        if not found:  # CUDA ignores everything after the first unknown name
            break
        chosen.append(found[0])
    return tuple(chosen)


def free_disk(directory: Path) -> int | None:
    """Free bytes in the file system of a directory."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None
