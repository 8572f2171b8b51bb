"""Runs a stage body in its own process, under a supervisor, and returns its result."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from alignflow.data import errors
from alignflow.data.configs.server import block_variable
from alignflow.data.errors import AlignflowError, StageError
from alignflow.data.run import write_whole
from alignflow.safe_path import python
from alignflow.tasks.launch.environment import stage_environment, withheld

GRACE_S = 2.0
_POLL_S = 0.1
SUPERVISOR = Path(__file__).with_name("supervise.py")
START = Path(__file__).parents[2] / "start.py"

Progress = Callable[[str, dict[str, Any]], None]
progress_listener: ContextVar[Progress | None] = ContextVar("progress_listener", default=None)
"""Listener for the progress of a stage: called with the step's name and the fields of `Run.progress`, or `waits` (for what), or `note` (a
message)."""


@contextlib.contextmanager
def listening(listener: Progress | None) -> Iterator[None]:
    """Send the progress of stages that start inside the block to `listener`, or to nobody."""
    token = progress_listener.set(listener)
    try:
        yield
    finally:
        progress_listener.reset(token)


def tell_waiting(name: str, why: str) -> None:
    """Tell the listener that a step waits, and for what."""
    if listener := progress_listener.get():
        listener(name, {"waits": why})


def tell_note(name: str, text: str) -> None:
    """Pass a step's notes to the listener."""
    if listener := progress_listener.get():
        listener(name, {"note": text})


def run_child(
    name: str,
    spec: dict[str, Any],
    area: Path,
    timeout_s: float | None,
    keep_open: tuple[int, ...] = (),
    still: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run `alignflow.worker` on `spec` and return its result: metrics, warnings, cost.

    Args:
        name: The step, for messages.
        spec: stage, config, inputs (paths), out, side, work, rows, runtime; `hub` if the stage may load from the Hub.
        area: Directory of the spec, result and error files; the log goes to `side/log.txt`.
        timeout_s: Seconds after which the child's process group is ended.
        keep_open: Files that stay open as long as the child lives: the locks that it holds.
        still: Called repeatedly while the child runs; an exception from it ends the child.

    Raises:
        AlignflowError: the error of the body.
        StageError: it ended without a result (killed, out of memory, timeout); the message has the end of its log.
    """
    spec_path, log_path = area / "spec.json", Path(spec["side"]) / "log.txt"
    write_whole(spec_path, {**spec, "launch": uuid.uuid4().hex})  # nodes that wait for a launch must see the whole file
    with supervised([str(spec_path)], log_path, spec_environment(spec), keep_open) as supervisor:
        timed_out = _wait(supervisor, name, spec_path, timeout_s, still)
    return _outcome(name, area, supervisor.returncode, log_path, timed_out and timeout_s)


def spec_environment(spec: dict[str, Any]) -> dict[str, str]:
    """The environment of a spec's processes, made from this process's environment, with the values of the Secret blocks that it names.

    Raises:
        UserError: see `stage_environment`, or a Secret block cannot be read.
    """
    runtime = spec["runtime"]
    environment = stage_environment(
        os.environ, runtime.get("environment", ()), spec.get("hub", False), runtime.get("proxies", False)
    )
    if blocks := runtime.get("secret_blocks"):
        from alignflow.tasks.launch.secret_blocks import read_block  # imports Prefect

        environment |= {block_variable(block): read_block(block) for block in blocks}
    return environment


@contextlib.contextmanager
def supervised(
    arguments: list[str], log_path: Path, environment: dict[str, str], keep_open: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `alignflow.worker ARGUMENTS` under a supervisor, which ends its process group when this block or process ends.

    The log starts with the names of the variables that the process did not get.
    """
    command = [
        sys.executable,
        "-I",
        "-S",
        str(SUPERVISOR),
        str(GRACE_S),
        *python(str(START), "alignflow.worker", *arguments),
    ]
    with open(log_path, "w") as log:
        if left_out := withheld(os.environ, environment):
            log.write(
                f"environment variables that this process did not get (add them to engine.environment if needed): {', '.join(left_out)}\n"
            )
            log.flush()
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            pass_fds=keep_open,
        )
    try:
        yield supervisor
    finally:
        _end(supervisor)


def _wait(
    supervisor: subprocess.Popen[bytes],
    name: str,
    spec_path: Path,
    timeout_s: float | None,
    still: Callable[[], None] | None,
) -> bool:
    """Wait for the end and pass progress on; returns whether the time ran out. Touches the spec to show that the launch is alive."""
    started, ended, seen = time.monotonic(), False, 0
    while not ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(_POLL_S)
            ended = True
        if not ended and timeout_s is not None and time.monotonic() - started > timeout_s:
            return True
        if not ended:
            if still:
                still()
            with contextlib.suppress(OSError):
                os.utime(spec_path)
        seen = _pass_on(name, spec_path, seen)  # once more after the end, for the last progress
    return False


def _pass_on(name: str, spec_path: Path, seen: int) -> int:
    """Pass the stage's progress to the listener if it changed since `seen`; returns the time of the progress that it passed on."""
    progress, listener = spec_path.parent / "side" / "progress.json", progress_listener.get()
    with contextlib.suppress(OSError, ValueError):
        changed = progress.stat().st_mtime_ns
        if listener and changed != seen:
            listener(name, json.loads(progress.read_text()))
            return changed
    return seen


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Close the pipe, so that the supervisor ends the child's process group, and wait for it."""
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
        raise StageError(
            f"stopped after {timeout:g} s",
            where=name,
            do="raise engine.timeout_s; a rerun continues from the last checkpoint",
        )
    with contextlib.suppress(OSError, ValueError):
        if status == 0:
            result: dict[str, Any] = json.loads((area / "result.json").read_text())
            return result
    failure: AlignflowError
    try:
        failure = errors.from_json(json.loads((area / "error.json").read_text()))
    except (OSError, ValueError, KeyError):
        killed = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
        failure = StageError(
            f"its process {killed} and left no result",
            where=name,
            do="it may have run out of memory; a rerun continues from the last checkpoint",
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
