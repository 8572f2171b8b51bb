"""Who a process is where several machines share a folder, and what time it is there."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alignflow.data.artifacts import text_digest


@dataclass(frozen=True)
class Host:
    """A place where a process number means one process: a boot of a machine, or one container on it.

    Attributes:
        name: The host's name, for people: two may have the same.
        boot: The kernel's id of this boot.
        processes: The namespace that process numbers belong to: each container has one.
    """

    name: str
    boot: str
    processes: str

    @property
    def id(self) -> str:
        """Twelve digits that tell it from every other host."""
        return text_digest(f"{self.name} {self.boot} {self.processes}")[:12]

    @property
    def file_name(self) -> str:
        """The name, as a part of a file's name."""
        return re.sub(r"[^A-Za-z0-9.]", "_", self.name)[:40]


@cache
def this_host() -> Host:
    """The host that this process runs on. psutil has neither id: its time of the boot moves with the clock."""
    boot, processes = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = os.readlink("/proc/self/ns/pid")
    return Host(socket.gethostname(), boot, processes)


def started(pid: int) -> str:
    """When a process of this host began, in the kernel's ticks: a number that is given again begins later. Empty: it is dead.

    psutil gives the time by the clock, which moves when the clock is set: two looks at one process could then differ.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def now_in(directory: Path) -> float:
    """The time, in seconds, by the clock that stamps files in `directory`: a file server's may differ from ours."""
    file, name = tempfile.mkstemp(prefix=".now-", dir=directory)
    try:
        stamp(file)
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


FRESH_S = 3600.0  # who writes a temporary file writes to it more often


def remove_abandoned(directory: Path, prefix: str) -> None:
    """Remove temporary files `PREFIX PID-HOST-...` (no blank) whose writers are dead: those of this host at once, and those of other
    hosts that nobody wrote to for an hour. One with our own process number is of an earlier process that had it.
    """
    found = list(directory.glob(f"{prefix}*"))
    now = now_in(directory) if found else 0.0
    for path in found:
        pid, _, rest = path.name.removeprefix(prefix).partition("-")
        with contextlib.suppress(FileNotFoundError):  # its writer may commit it now
            fresh = _alive(pid) if rest.partition("-")[0] == this_host().id else now - path.stat().st_mtime < FRESH_S
            if not fresh:
                path.unlink()


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):  # the number of a process that is gone, or that no process can have
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def stamp(file: int) -> None:
    """Update the mtime of an open file by rewriting its last byte (a newline); network mounts then use the server's time."""
    os.pwrite(file, b"\n", max(0, os.fstat(file).st_size - 1))
    os.fsync(file)
