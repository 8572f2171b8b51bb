"""Leases of vLLM's process: finds it by the name of its weights and settings, or starts it; the stages of a run share it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data import engine_hosts, wire
from alignflow.data.errors import ModelError
from alignflow.data.vllm_environment import broken, look_into

CHILD = Path(__file__).with_name("vllm_child.py")
STARTS_WITHIN_S = 900.0
RUN = "ALIGNFLOW_RUN"
_POLL_S = 0.1
_FINDS = 3


@dataclass(frozen=True)
class HostPlan:
    """Settings to start a process of vLLM.

    Attributes:
        name: Made from weights and settings: two plans with the same name can share a process.
        python: vLLM's interpreter.
        engine: Arguments of `vllm.LLM`, without the model.
        model: Returns the directory of the weights; called for each start.
        environment: All its variables.
        idle_s: It ends after this many seconds without a client.
    """

    name: str
    python: Path
    engine: Mapping[str, Any]
    model: Callable[[], Path]
    environment: Mapping[str, str]
    idle_s: float


class HostGoneError(Exception):
    """vLLM's process ended before it answered."""


class Lease:
    """A connection to vLLM's process, which runs as long as anybody leases it.

    Args:
        plan: The process's settings.
        ready: Called with the lease once it is connected, and with what was verified of that process before; under the lock of its name,
            so that only one of several clients checks a process.
    """

    def __init__(self, plan: HostPlan, ready: Callable[[Lease, bool], None]):
        self._plan, self._ready = plan, ready
        self._connection: socket.socket | None = None
        self.pid, self.version, self.verified = 0, "", frozenset[str]()

    def open(self, before_start: Callable[[], None] = lambda: None) -> None:
        """Find the process or start it, under the lock of its name; `before_start` is called when it has to be started.

        Raises:
            ModelError: it does not start; has the end of its log.
        """
        with engine_hosts.start_lock(self._plan.name):
            started = not self._find()
            if started:
                before_start()
                engine_hosts.end_idle_hosts()
                _start(self._plan)
                if not self._find():
                    raise self._lost("it ended right after its start")
            try:
                self._ready(self, started)
            except BaseException as error:
                self.close()  # the next client checks it again
                if isinstance(error, HostGoneError):
                    raise self._lost(str(error)) from None
                raise

    def ask(self, op: str, **fields: Any) -> Any:
        """One request and its answer.

        Raises:
            ModelError: vLLM refuses the request.
            HostGoneError: the process ended before it answered.
        """
        answer = self._exchange({"op": op, **fields})
        if "error" in answer:
            raise ModelError(
                f"vLLM refuses the request: {answer['error']}", where="generator", do=f"its log: {self.log}"
            )
        return answer.get("found")

    def mark_verified(self, what: str) -> None:
        """Tell later clients that these weights were verified in this process."""
        self._exchange({"op": "verified", "what": what})
        self.verified |= {what}

    @property
    def log(self) -> Path:
        """The log of the process."""
        return log_path(self._plan.name)

    def close(self) -> None:
        """End the lease; the process ends if nobody leases it for a while."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _find(self) -> bool:
        for _ in range(_FINDS):  # a process that is ending closes the connection: look again
            connection = engine_hosts.connected(engine_hosts.socket_path(self._plan.name))
            if connection is None:
                return False
            self._connection = connection
            with contextlib.suppress(HostGoneError):
                found = self._exchange({"op": "lease", "run": run_process(), "idle_s": self._plan.idle_s})
                self.pid, self.version = int(found["pid"]), str(found["version"])
                self.verified = frozenset(found["verified"])
                return True
        return False

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            raise HostGoneError("its process ended")
        try:
            wire.send(self._connection, message)
            answer = wire.receive(self._connection)
        except OSError as error:
            self.close()
            raise HostGoneError(f"its process ended ({error})") from None
        except BaseException:
            self.close()  # an unread answer must not be read as that of the next request
            raise
        if answer is None:
            self.close()
            raise HostGoneError("its process ended before it answered")
        return answer

    def _lost(self, why: str) -> ModelError:
        return ModelError(
            f"vLLM: {why}", where="generator", do=f"the end of its log ({self.log}):\n{tail(self._plan.name)}"
        )


def run_process() -> int:
    """The process of the run that this stage belongs to, from the supervisor; outside of a stage this process itself."""
    named = os.environ.get(RUN, "")
    return int(named) if named.isdigit() else os.getpid()


def log_path(name: str) -> Path:
    """The log of a host."""
    return engine_hosts.engine_directory() / f"{name}.log"


def tail(name: str, lines: int = 12) -> str:
    """The last lines of a host's log."""
    with contextlib.suppress(OSError):
        return "\n".join(
            f"    {line[:300]}" for line in log_path(name).read_text(errors="replace").splitlines()[-lines:]
        )
    return ""


def _start(plan: HostPlan) -> None:
    """Start a host in a separate session and wait until it listens; raises ModelError if it ends before that."""
    path = engine_hosts.socket_path(plan.name)
    settings = {
        "socket": str(path),
        "idle_s": plan.idle_s,
        "run": run_process(),
        "engine": {**plan.engine, "model": str(plan.model())},
    }
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # left by a killed host: we hold its lock, and nobody listens
    engine_hosts.remove_old_logs()
    log = os.open(log_path(plan.name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            [str(plan.python), "-I", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(plan.environment),
            start_new_session=True,
        )
    except OSError as error:
        raise broken(plan.python, f"the interpreter does not run: {error}") from None
    finally:
        os.close(log)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(settings).encode())
        process.stdin.close()
    try:
        _wait_until_it_listens(process, plan, path)
    except BaseException:
        kill(process.pid)
        process.wait()
        raise


def _wait_until_it_listens(process: subprocess.Popen[bytes], plan: HostPlan, path: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while not path.exists():
        if process.poll() is not None:
            found = look_into(plan.python)  # is the environment broken, or only this model?
            if found.error:
                raise broken(plan.python, found.error)
            raise ModelError(
                f"vLLM does not load the model (status {process.returncode})",
                where="generator",
                do=f"the end of its log ({log_path(plan.name)}):\n{tail(plan.name)}",
            )
        if time.monotonic() > end:
            raise ModelError(
                f"vLLM did not load the model within {STARTS_WITHIN_S:g} s",
                where="generator",
                do=f"the end of its log:\n{tail(plan.name)}",
            )
        time.sleep(_POLL_S)


def kill(pid: int) -> None:
    """End a host with everything that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
