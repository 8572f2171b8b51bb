"""Starts, repairs and stops the server and the workers of a store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alignflow.data.errors import AlignflowError, UserError
from alignflow.safe_path import python
from alignflow.server import history, processes
from alignflow.server.api import Api
from alignflow.server.database import check_database
from alignflow.server.deployments import register_deployments
from alignflow.server.environment import server_environment, worker_environment
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.limits import raise_limits
from alignflow.server.pools import install, pools
from alignflow.server.processes import Process
from alignflow.server.settings import SQLITE, ServerSettings, changed, check_port, without_secrets
from alignflow.server.status import WORKER, is_online
from alignflow.server.working_directory import refuse_prefect_files

START = Path(__file__).parents[1] / "start.py"
SERVER = "server"
STARTING_S = 120
WORKER_STARTING_S = 60
ANSWERING_S = 15
"""Seconds that a running server may stay silent before it is restarted."""
WORKER_STOPPING_S = 15
RUNS_STOPPING_S = 20
SERVER_STOPPING_S = 20
UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")

Say = Callable[[str], None]


def up(home: Home, given: dict[str, Any], directory: Path, say: Say) -> list[str]:
    """Start what does not run yet. Returns the names of what was started; empty if everything was up.

    Args:
        home: Home of the store.
        given: Settings by name; None keeps the remembered value.
        directory: Working directory of flow runs.
        say: Called with progress messages.

    Raises:
        UserError: settings are refused, the port is taken, the database does not answer, or the folder has settings of Prefect.
        ServerError: a process does not come up. Everything that this call started is stopped again.
    """
    refuse_prefect_files(directory)
    home.make()
    with _alone(home):
        settings = _settings(home, given)
        started: list[Process] = []
        try:
            if _server(home, settings, started, say):
                say("creating work pools")
            api = Api(home, settings)
            wanted = {f"{WORKER}{pool}": pool for pool in pools(settings).values()}
            missing = [name for name in wanted if not _runs(home, name)]
            if started or missing:
                install(api, settings, directory)
                for name in missing:
                    started.append(_start_worker(home, settings, name, wanted[name], directory))
                say("registering deployments")
                register_deployments(home, settings, directory)
                say("waiting for the workers")
                for process in started:
                    if process.name in wanted:
                        _wait_for_worker(home, api, process, wanted[process.name])
        except BaseException:
            for process in reversed(started):
                processes.stop(process, 5)
                processes.forget(home, process.name)
            raise
        return [process.name for process in started]


def down(home: Home, say: Say) -> list[str]:
    """Stop the workers' flow runs, the workers, then the server. Returns what was stopped; empty if nothing was up.

    A process that does not end in time is killed. Finished stages of a run stay in the store; the run itself is Crashed.
    """
    home.make()
    with _alone(home):
        known = processes.known(home)
        server = known.pop(SERVER, None)
        spare = frozenset({server.pid} if server else ())
        workers = [process for process in known.values() if process.alive]
        stopped = []
        runs = processes.flow_runs(home)
        if runs:  # before their workers, which would kill them without a message
            say(f"ending {len(runs)} flow runs")
            processes.end_marked(home, RUNS_STOPPING_S, spare | {worker.pid for worker in workers})
        for worker in workers:
            say(f"stopping {worker.name}")
            stopped.append(_stopped(worker, WORKER_STOPPING_S))
        runs |= processes.flow_runs(home)
        processes.end_marked(home, RUNS_STOPPING_S, spare)
        stopped += [f"flow run {run}" for run in sorted(runs)]
        if server and server.alive:
            _mark_crashed(home, runs)
            say("stopping the server")
            stopped.append(_stopped(server, SERVER_STOPPING_S))
        for name in processes.known(home):
            processes.forget(home, name)
        return stopped


def _mark_crashed(home: Home, runs: set[str]) -> None:
    """Tell the server that these runs ended, if it still answers; a worker that is gone cannot."""
    with contextlib.suppress(AlignflowError):
        api = Api(home, home.settings(), timeout_s=5)
        for run in runs if api.answers() else ():
            record = api.get(f"/flow_runs/{run}")
            if record and record["state"]["type"] in UNFINISHED:
                state = {"type": "CRASHED", "name": "Crashed", "message": "Stopped by `alignflow down`."}
                api.post(f"/flow_runs/{run}/set_state", {"state": state})


def watch(home: Home) -> str:
    """Wait until a process of the set ends, and return its name."""
    while True:
        for name, process in processes.known(home).items():
            if not process.alive:
                return name
        time.sleep(0.5)


def _stopped(process: Process, seconds: float) -> str:
    return process.name if processes.stop(process, seconds) else f"{process.name} (killed)"


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold a lock: two commands at once would start two servers."""
    descriptor = os.open(home.root / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _settings(home: Home, given: dict[str, Any]) -> ServerSettings:
    remembered = home.settings()
    settings = changed(remembered, given)
    if _runs(home, SERVER) and settings != remembered:
        different = [
            name for name in ServerSettings.model_fields if getattr(settings, name) != getattr(remembered, name)
        ]
        raise UserError(
            f"it is up already, with another {', '.join(different).replace('_', ' ')}",
            where=remembered.url,
            do="`alignflow down` first",
        )
    return settings


def _runs(home: Home, name: str) -> bool:
    process = processes.known(home).get(name)
    return process is not None and process.alive


def _server(home: Home, settings: ServerSettings, started: list[Process], say: Say) -> bool:
    """Make sure that a server answers. Returns whether it had to be started."""
    if _runs(home, SERVER):
        if _answers_within(home, settings, ANSWERING_S):
            return False
        say("the server runs but does not answer: restarting it")
        processes.stop(processes.known(home)[SERVER], SERVER_STOPPING_S)
    check_port(settings)
    raise_limits()
    check_database(settings)
    with history.starting(home.prefect) if settings.database == SQLITE else contextlib.nullcontext():
        _start_on_its_database(home, settings, started, say)
    return True


def _start_on_its_database(home: Home, settings: ServerSettings, started: list[Process], say: Say) -> None:
    if settings.database == SQLITE and (done := history.mend(home.prefect)):
        say(done)
    home.remember(settings)
    say("starting the server")
    if not _started(home, settings, started):
        say(history.set_aside(home.prefect / history.NAME, "the server noticed it while starting"))
        if not _started(home, settings, started):
            raise ServerError(
                "the new database is damaged too",
                where=str(home.prefect),
                do=processes.end_of_log(home, SERVER),
            )


def _started(home: Home, settings: ServerSettings, started: list[Process]) -> bool:
    """Start the server and wait until it answers. Returns False if it ended because its SQLite database is damaged.

    Raises:
        ServerError: it does not start; the message names the cause if the log shows one.
    """
    command = python(str(START), "alignflow.server.app", str(home.store))
    before = processes.log_size(home, SERVER)
    # Not in the directory of `up`: while Prefect migrates its database, alembic puts the working directory first in the module search path.
    server = processes.start(home, SERVER, command, server_environment(home, settings), home.root)
    started.append(server)
    if _answers_within(home, settings, STARTING_S, server):
        return True
    what = "the server did not answer in time" if server.alive else "the server ended while it started"
    log = without_secrets(processes.end_of_log(home, SERVER, history.READ_LINES, before), settings.database)
    if settings.database == SQLITE and not server.alive and history.shows_damage(log):
        started.remove(server)
        return False
    raise history.explained(what, home.logs / "server.log", log)


def _answers_within(home: Home, settings: ServerSettings, seconds: float, process: Process | None = None) -> bool:
    api = Api(home, settings, timeout_s=3)
    end = time.monotonic() + seconds
    while time.monotonic() < end and (process is None or process.alive):
        if api.answers():
            return True
        time.sleep(0.2)
    return False


def _start_worker(home: Home, settings: ServerSettings, name: str, pool: str, directory: Path) -> Process:
    command = python("-m", "prefect", "worker", "start", "--pool", pool, "--name", name, "--type", "process")
    command += ["--install-policy", "never"]
    return processes.start(home, name, command, worker_environment(home, settings), directory)


def _wait_for_worker(home: Home, api: Api, process: Process, pool: str) -> None:
    end = time.monotonic() + WORKER_STARTING_S
    while not is_online(api, pool, process):
        if not process.alive or time.monotonic() > end:
            what = "did not come up in time" if process.alive else "ended while it started"
            raise ServerError(
                f"{process.name} {what}",
                where=str(home.logs / f"{process.name}.log"),
                do=processes.end_of_log(home, process.name),
            )
        time.sleep(0.3)
