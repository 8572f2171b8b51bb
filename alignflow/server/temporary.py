"""The server of a single run, if no other is up: guarded, with a random login that nobody else knows, and it ends with the run.

It uses the database in the store's home, so a later `alignflow up` shows its records.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from alignflow.safe_path import python
from alignflow.server import history, processes
from alignflow.server.api import Api
from alignflow.server.environment import DATABASE as THEIR_DATABASE
from alignflow.server.environment import MARK, QUIET, server_environment, without_proxy
from alignflow.server.errors import ServerError
from alignflow.server.layout import USER, Home
from alignflow.server.limits import raise_limits
from alignflow.server.settings import ServerSettings

STARTING_S = 120.0
STOPPING_S = 4.0
LOG_KEPT_S = 7 * 24 * 3600
IN_MEMORY = "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
START = Path(__file__).parents[1] / "start.py"

Say = Callable[[str], None]


class TemporaryServer:
    """A server for this process only. It ends when this process ends, however that happens.

    Args:
        home: Home of the store.
        say: Called with messages for the user: the database was set aside, or is locked.

    Raises:
        ServerError: the server cannot be started; the message names the cause.
    """

    def __init__(self, home: Home, say: Say):
        self._home, self._say = home, say
        self._login = f"{USER}:{secrets.token_urlsafe(32)}"
        self._directory = Path(os.environ.get("PREFECT_HOME") or home.prefect)
        self._database: dict[str, str] = {}
        self._log = f"temporary-{os.getpid()}"
        self._starting = contextlib.ExitStack()  # until the server answers
        raise_limits()
        self._make_home()
        try:
            if not self._has_other_database():
                self._starting.enter_context(history.starting(self._directory))
            self._check_database()
            self._start()
        except BaseException:
            self._starting.close()
            raise
        atexit.register(self.stop)  # runs after Prefect's own handlers, which still have events to send

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment that makes this process a client of the server. It holds the login, so no child may inherit it."""
        return {
            **QUIET,
            **without_proxy(self._settings),
            "PREFECT_HOME": str(self._directory),
            "PREFECT_API_URL": f"{self._settings.url}/api",
            "PREFECT_API_AUTH_STRING": self._login,
        }

    def wait(self) -> None:
        """Wait until the server answers. A database that turns out to be damaged is set aside once.

        Raises:
            ServerError: it does not start; the message names the cause if the log shows one.
        """
        with self._starting:
            self._wait()

    def _wait(self) -> None:
        if self._answers():
            return
        ours = not self._database and not self._has_other_database()
        if self._process.poll() is not None and history.shows_damage(self._said()) and ours:
            self._say(history.set_aside(self._directory / history.NAME, "the server noticed it while starting"))
            self._end(0.0)
            self._start(self._settings.port)
            if self._answers():
                return
        ended = self._process.poll() is not None
        error = history.explained(
            "the temporary Prefect server ended while it started"
            if ended
            else f"the temporary Prefect server did not answer in {STARTING_S:g} s",
            self._home.logs / f"{self._log}.log",
            self._said(),
        )
        self._end(0.0)
        raise error

    def stop(self, seconds: float = STOPPING_S) -> None:
        """Ask the server to end, kill it after some seconds, and delete its log."""
        atexit.unregister(self.stop)
        self._end(seconds)
        with contextlib.suppress(OSError):
            (self._home.logs / f"{self._log}.log").unlink()

    def _make_home(self) -> None:
        try:
            self._home.make()
            for log in self._home.logs.glob("temporary-*.log"):  # left by killed runs
                if log.stat().st_mtime < time.time() - LOG_KEPT_S:
                    log.unlink(missing_ok=True)
        except OSError as error:
            what, do = history.cause(str(error)) or (str(error), "")
            raise ServerError(
                f"the Prefect server cannot start: {what} ({error})", where=str(self._home.root), do=do
            ) from None

    @staticmethod
    def _has_other_database() -> bool:
        """Whether the user's environment names another database for Prefect."""
        return any(name.startswith("PREFECT_") and THEIR_DATABASE.fullmatch(name) for name in os.environ)

    def _check_database(self) -> None:
        if self._has_other_database():
            return
        try:
            if done := history.mend(self._directory):
                self._say(done)
        except history.LockedError as error:
            self._database = {DATABASE: IN_MEMORY}
            self._say(
                f"this run will not appear in the history: {error.what.rpartition(': ')[2]} ({error.where}{_after(error.do)})"
            )

    def _start(self, port: int = 0) -> None:
        try:
            with socket.socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(("127.0.0.1", port))
                listening.listen(128)
                self._settings = ServerSettings(port=listening.getsockname()[1])
                self._process = self._launch(listening)
        except OSError as error:
            what, do = history.cause(str(error)) or (str(error), "")
            raise ServerError(f"the Prefect server cannot start: {what}", where=str(self._home.store), do=do) from None

    def _launch(self, listening: socket.socket) -> subprocess.Popen[bytes]:
        environment = {
            **server_environment(self._home, self._settings, self._login),
            **self._database,
            "PREFECT_HOME": str(self._directory),
            "PREFECT_UI_ENABLED": "false",
            "PREFECT__SERVER_EPHEMERAL": "1",
        }
        environment.pop(MARK)  # `alignflow down` is not meant to end it
        log = processes.open_log(self._home, self._log)
        try:
            return subprocess.Popen(
                python(str(START), "alignflow.server.tied", str(listening.fileno()), str(self._settings.port)),
                env=environment,
                cwd=self._home.root,  # not the user's directory: alembic puts the working directory first in the module search path
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(listening.fileno(),),
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _answers(self) -> bool:
        api = Api(self._home, self._settings, timeout_s=3, login=self._login)
        end = time.monotonic() + STARTING_S
        while time.monotonic() < end and self._process.poll() is None:
            if api.answers():
                return True
            time.sleep(0.05)
        return False

    def _said(self) -> str:
        return processes.end_of_log(self._home, self._log, history.READ_LINES)

    def _end(self, seconds: float) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _after(text: str) -> str:
    return f"; {text}" if text else ""
