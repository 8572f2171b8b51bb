"""One stage at a time on a GPU: a lock per device for all processes of the machine, whatever server or shell started them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from alignflow.data import catalogue
from alignflow.data.run import Runtime

_POLL_S = 0.2
PLACE = "ALIGNFLOW_GPU_LOCKS"
"""Environment variable for another directory of the locks, for example one that containers on a machine share."""


def lock_directory() -> Path:
    """The directory of the locks, writable by every user of the machine."""
    directory = Path(os.environ.get(PLACE) or Path(tempfile.gettempdir()) / "alignflow-gpus")
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o1777)
    return directory


def visible_devices() -> list[str]:
    """The GPUs that a child of this process sees, in order: those in CUDA_VISIBLE_DEVICES, or all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    numbers = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")]
    return sorted((number for number in numbers if number.isdigit()), key=int)


def devices_of(stage: str, runtime: Runtime) -> list[str]:
    """The GPUs that a call uses: one per process; none for a stage that runs no model."""
    row = catalogue.STAGES[stage]
    if runtime.device != "cuda" or not (row.trains or row.generates or row.scores):
        return []
    return visible_devices()[: runtime.processes]


@contextlib.contextmanager
def held(
    devices: list[str], still: Callable[[], None] | None = None, waits: Callable[[str], None] = lambda device: None
) -> Iterator[tuple[int, ...]]:
    """Wait until no other stage holds these devices, then hold them; yields the open files of the locks.

    `waits` is called with each device that is not free; `still` is called repeatedly during the wait and may raise to end it.

    A process that inherits the files holds the devices until it ends, even if this one is killed: the stage's
    supervisor does. Locks are always taken in the same order, so two stages never wait for each other.
    """
    with contextlib.ExitStack() as stack:
        names = sorted(set(devices))
        files = [_open(device) for device in names]
        for file in files:
            stack.callback(os.close, file)
        for device, file in zip(names, files, strict=True):
            _lock(device, file, still, waits)
        yield tuple(files)


def _lock(device: str, file: int, still: Callable[[], None] | None, waits: Callable[[str], None]) -> None:
    with contextlib.suppress(BlockingIOError):
        return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    waits(device)
    if still is None:
        return fcntl.flock(file, fcntl.LOCK_EX)
    while True:
        still()
        time.sleep(_POLL_S)
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open(device: str) -> int:
    path = lock_directory() / f"{re.sub(r'[^A-Za-z0-9.-]', '_', device)}.lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with contextlib.suppress(PermissionError):  # another user's file, which is already writable for all
        os.fchmod(file, 0o666)
    return file
