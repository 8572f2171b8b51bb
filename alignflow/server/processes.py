"""Starts and ends processes that outlive the command, and identifies them later by id, boot and start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from alignflow.data import host
from alignflow.server.environment import MARK
from alignflow.server.layout import Home, write_private

MOST_LOG_BYTES = 10_000_000
RUN_ID = "PREFECT__FLOW_RUN_ID"
"""Prefect's environment variable that holds a flow run's id in its process."""


@dataclass(frozen=True)
class Process:
    """A process that was started; `born` distinguishes it from a later process with the same id."""

    name: str
    pid: int
    born: str
    since: str

    @property
    def alive(self) -> bool:
        """Whether this same process still runs."""
        return birth(self.pid) == self.born

    @property
    def of_this_boot(self) -> bool:
        """Whether this machine started it since it was last started itself: in a store that machines share, another one may have."""
        return self.born.partition(":")[0] == host.this_host().boot


def birth(pid: int) -> str | None:
    """Boot id and clock tick at which a process started; None if it is gone or a zombie."""
    ticks = host.started(pid)
    return f"{host.this_host().boot}:{ticks}" if ticks else None


def start(home: Home, name: str, command: list[str], environment: Mapping[str, str], directory: Path) -> Process:
    """Start a process in its own session with its output in `logs/NAME.log`, and record its identity."""
    descriptor = open_log(home, name)
    try:
        with _interruptible():
            started = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
    finally:
        os.close(descriptor)
    process = Process(name, started.pid, birth(started.pid) or "", datetime.now(UTC).isoformat(timespec="seconds"))
    write_private(home.processes / f"{name}.json", json.dumps(asdict(process)))
    return process


def open_log(home: Home, name: str) -> int:
    """Open `logs/NAME.log` for appending and return its descriptor; a large log is rotated first."""
    log = home.logs / f"{name}.log"
    if log.exists() and log.stat().st_size > MOST_LOG_BYTES:
        os.replace(log, log.with_suffix(".log.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Restore SIGINT: a shell starts background jobs with SIGINT ignored, and a worker that inherits this cannot be stopped."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def known(home: Home) -> dict[str, Process]:
    """The recorded processes by name, alive or not."""
    found = {}
    for file in sorted(home.processes.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            process = Process(**json.loads(file.read_text()))
            found[process.name] = process
    return found


def forget(home: Home, name: str) -> None:
    """Remove the record of a process."""
    (home.processes / f"{name}.json").unlink(missing_ok=True)


def stop(process: Process, seconds: float) -> bool:
    """Ask a process to end, wait, and kill it if it does not. Returns whether it ended by itself."""
    if not _signal(process, signal.SIGTERM) or wait_for_end([process], seconds):
        return True
    _signal(process, signal.SIGKILL)
    wait_for_end([process], 5)
    return False


def _signal(process: Process, number: int) -> bool:
    if not process.alive:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
    return True


def wait_for_end(processes: list[Process], seconds: float) -> bool:
    """Wait until all processes are gone; returns whether they are."""
    end = time.monotonic() + seconds
    while any(process.alive for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def marked(home: Home, spare: frozenset[int] = frozenset()) -> dict[int, Process]:
    """Every process of this home except `spare`, by id: those that were started and their descendants, orphans too."""
    return {pid: process for pid, (process, _) in _marked(home).items() if pid not in spare}


def flow_runs(home: Home) -> set[str]:
    """The ids of the flow runs that workers of this home started, even if the worker died."""
    return {run for _, run in _marked(home).values() if run}


def _marked(home: Home) -> dict[int, tuple[Process, str]]:
    mark = f"{MARK}={home.root}"
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                if mark in variables and (born := birth(int(entry.name))):
                    run = next((value.partition("=")[2] for value in variables if value.startswith(f"{RUN_ID}=")), "")
                    found[int(entry.name)] = (
                        Process((entry / "comm").read_text().strip(), int(entry.name), born, ""),
                        run,
                    )
    return found


def end_marked(home: Home, seconds: float, spare: frozenset[int]) -> None:
    """End all processes of this home: first the parents, which end their children.

    Args:
        home: The home.
        seconds: Time to end before they are killed.
        spare: Process ids to leave alone.
    """
    left = marked(home, spare)
    for pid, process in left.items():
        if _parent(pid) not in left:
            _signal(process, signal.SIGTERM)
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = marked(home, spare)
    for process in left.values():
        _signal(process, signal.SIGKILL)
    wait_for_end(list(left.values()), 5)


def _parent(pid: int) -> int:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def end_of_log(home: Home, name: str, lines: int = 15, after: int = 0) -> str:
    """The last lines of a process's log, only those after byte `after`, such as the log's size when the process started."""
    try:
        written = (home.logs / f"{name}.log").read_bytes()[after:]
    except OSError:
        return ""
    return "\n".join(written.decode(errors="replace").splitlines()[-lines:])


def log_size(home: Home, name: str) -> int:
    """Size of a process's log in bytes; 0 if it has none, or if the next start rotates it."""
    try:
        size = (home.logs / f"{name}.log").stat().st_size
    except OSError:
        return 0
    return 0 if size > MOST_LOG_BYTES else size
