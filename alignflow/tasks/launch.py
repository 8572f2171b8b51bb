"""Starts a stage body in a process of its own, under a supervisor, and waits for what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from alignflow.data import errors
from alignflow.data.errors import AlignflowError, StageError

GRACE_S = 5.0
_POLL_S = 0.1
SUPERVISOR = Path(__file__).with_name("supervise.py")

Progress = Callable[[str, dict[str, Any]], None]
progress_listener: ContextVar[Progress | None] = ContextVar("progress_listener", default=None)
"""Who hears how far a stage is: called with the step's name and the fields of `Run.progress`."""


@contextlib.contextmanager
def listening(listener: Progress) -> Iterator[None]:
    """Let `listener` hear the progress of stages that start inside."""
    token = progress_listener.set(listener)
    try:
        yield
    finally:
        progress_listener.reset(token)


def run_child(name: str, spec: dict[str, Any], area: Path, timeout_s: float | None) -> dict[str, Any]:
    """Run `alignflow.worker` on `spec` and return its result: metrics, warnings, cost.

    Args:
        name: The step, for messages.
        spec: stage, config, inputs (paths), out, side, work, rows, runtime.
        area: Where spec, result and error files stand; the log goes to `side/log.txt`.
        timeout_s: Seconds after which the child's process group is ended.

    Raises:
        AlignflowError: the one that the body raised.
        StageError: it ended without a word (killed, out of memory, timeout); carries the end of its log.
    """
    spec_path, log_path = area / "spec.json", Path(spec["side"]) / "log.txt"
    spec_path.write_text(json.dumps(spec))
    command = [sys.executable, "-I", "-S", str(SUPERVISOR), str(GRACE_S), sys.executable, "-m", "alignflow.worker", str(spec_path)]
    with open(log_path, "w") as log:
        supervisor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=_environment())
    try:
        timed_out = _wait(supervisor, name, Path(spec["side"]), timeout_s)
    finally:
        _end(supervisor)
    return _outcome(name, area, supervisor.returncode, log_path, timed_out and timeout_s)


def _environment() -> dict[str, str]:
    """The parent's environment, with this checkout importable by the child, and no Prefect context."""
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (package_root, os.environ.get("PYTHONPATH", "")) if part)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")},
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


def _wait(supervisor: subprocess.Popen[bytes], name: str, side: Path, timeout_s: float | None) -> bool:
    """Wait for the end and pass progress on; returns whether the time ran out."""
    listener, started, seen = progress_listener.get(), time.monotonic(), 0
    while True:
        try:
            supervisor.wait(_POLL_S)
            return False
        except subprocess.TimeoutExpired:
            pass
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            return True
        with contextlib.suppress(OSError, ValueError):
            changed = (side / "progress.json").stat().st_mtime_ns
            if listener and changed != seen:
                seen = changed
                listener(name, json.loads((side / "progress.json").read_text()))


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Close the pipe, at which the supervisor ends the child's group, and wait for that."""
    assert supervisor.stdin is not None
    with contextlib.suppress(OSError):
        supervisor.stdin.close()
    try:
        supervisor.wait(GRACE_S + 10)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _outcome(name: str, area: Path, status: int, log: Path, timeout: float | bool | None) -> dict[str, Any]:
    if timeout:
        raise StageError(f"stopped after {timeout:g} s", where=name, do="raise engine.timeout_s; a rerun goes on from its last checkpoint")
    with contextlib.suppress(OSError, ValueError):
        if status == 0:
            return json.loads((area / "result.json").read_text())
    failure: AlignflowError
    try:
        failure = errors.from_json(json.loads((area / "error.json").read_text()))
    except (OSError, ValueError, KeyError):
        killed = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
        failure = StageError(
            f"its process {killed} and left no result", where=name, do="out of memory? A rerun goes on from its last checkpoint"
        )
    if type(failure) is StageError:
        failure.do = f"{failure.do}\n  end of the log ({log}):\n{_tail(log)}"
    raise failure


def _tail(log: Path, lines: int = 12) -> str:
    try:
        text = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "\n".join(f"    {line[:300]}" for line in text)
