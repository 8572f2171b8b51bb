"""What is up, where, and whether it is healthy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from alignflow.server import processes
from alignflow.server.api import Api
from alignflow.server.elsewhere import Elsewhere, look, run_counts, server_elsewhere
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.pools import pools
from alignflow.server.processes import Process
from alignflow.server.settings import ServerSettings

WORKER = "worker-"


class PartStatus(BaseModel):
    """A process of the set."""

    name: str
    healthy: bool
    pid: int | None = None
    since: str = ""
    problem: str = ""


class PoolStatus(BaseModel):
    """A work pool."""

    name: str
    paused: bool
    limit: int | None


class Waits(BaseModel):
    """A run that waits for a person.

    Attributes:
        run: Its name; that of the recipe where it ended in a terminal.
        id: The id of the server's flow run; empty where the run ended in a terminal.
        since: When it asked: ISO time.
        gate: The gate that asks; empty where it is not known.
        question: What was measured, and what it should be.
        answer: The command that says yes.
        refuse: The command that says no; empty where the run has ended and needs none.
        url: The run's page; empty where it ended in a terminal.
    """

    run: str
    id: str = ""
    since: str
    gate: str = ""
    question: str
    answer: str
    refuse: str = ""
    url: str = ""


class Status(BaseModel):
    """All of it; what the server would have to say is None while it does not answer.

    Attributes:
        elsewhere: Why the server is taken to run on another machine; empty where it is to run on this one.
        database: Of a server on this machine; empty for one elsewhere.
        login_file: The file with the login of the store's server; empty where another server is shown.
    """

    healthy: bool
    url: str
    elsewhere: str = ""
    database: str
    store: str
    logs: str
    login_file: str
    server: PartStatus
    workers: list[PartStatus]
    pools: list[PoolStatus] = []
    deployments: int | None = None
    runs: dict[str, int] | None = None
    waiting: list[Waits] = []


def status(home: Home) -> Status:
    """Look at the processes, and ask the server where it answers. Changes nothing."""
    settings = home.settings()
    known = processes.known(home)
    found = Status(
        healthy=False,
        url=settings.url,
        database=settings.shown_database,
        store=str(home.store),
        logs=str(home.logs),
        login_file=str(home.login_file),
        server=_part("server", known),
        workers=[_part(f"{WORKER}{pool}", known) for pool in sorted(set(pools(settings).values()))],
    )
    server = known.get("server")
    if server and not server.of_this_boot:
        found.server.problem = (
            f"process {server.pid} was started on another machine that shares the store, or before this one was started anew; nothing "
            "answers at this address here"
        )
    if place := server_elsewhere(home, settings, found.server.pid is not None):
        _look_elsewhere(home, settings, place, found)
        return found
    if found.server.healthy:
        api = Api(home, settings, timeout_s=5)
        try:
            _ask(api, found, known)
        except ServerError as error:
            found.server.healthy, found.server.problem = False, error.what
    if not found.server.healthy:
        for worker in found.workers:
            worker.healthy, worker.problem = False, worker.problem or "the server does not answer"
    found.healthy = all(part.healthy for part in (found.server, *found.workers))
    return found


def _look_elsewhere(home: Home, settings: ServerSettings, place: Elsewhere, found: Status) -> None:
    """Fill in what can be known from here of a server elsewhere. It is healthy where each of its pools has a worker."""
    seen = look(home, settings, place)
    found.url, found.elsewhere, found.database = place.url, place.why, ""
    if not place.of_store:
        found.login_file = ""
    found.server = PartStatus(name="server", healthy=not seen.problem, problem=seen.problem)
    found.pools = [pool_status(name, record) for name, record in seen.pools.items()]
    found.workers = []
    for pool, names in seen.workers.items():
        found.workers += [PartStatus(name=name, healthy=True) for name in names]
        if not names:
            found.workers.append(PartStatus(name=f"of pool {pool}", healthy=False, problem="none is online"))
    found.deployments, found.runs = seen.deployments, seen.runs
    found.healthy = all(part.healthy for part in (found.server, *found.workers))


def pool_status(name: str, record: Mapping[str, Any]) -> PoolStatus:
    """A pool as the server describes it."""
    return PoolStatus(name=name, paused=record["is_paused"], limit=record["concurrency_limit"])


def _part(name: str, known: dict[str, Process]) -> PartStatus:
    process = known.get(name)
    if process is None:
        return PartStatus(name=name, healthy=False, problem="not started")
    if not process.alive:
        return PartStatus(name=name, healthy=False, problem=f"process {process.pid} ended")
    return PartStatus(name=name, healthy=True, pid=process.pid, since=process.since)


def _ask(api: Api, found: Status, known: dict[str, Process]) -> None:
    """Fill in what the server knows."""
    for worker in found.workers:
        pool = worker.name.removeprefix(WORKER)
        record: dict[str, Any] | None = api.get(f"/work_pools/{pool}")
        if record:
            found.pools.append(pool_status(pool, record))
        if worker.healthy and not (record and is_online(api, pool, known[worker.name])):
            worker.healthy, worker.problem = False, "runs, but the server has not heard from it"
    found.deployments, found.runs = api.post("/deployments/count", {}), run_counts(api)


def is_online(api: Api, pool: str, process: Process) -> bool:
    """Whether the server has heard lately from this very worker, and not from an earlier one of its name."""
    workers = api.post(f"/work_pools/{pool}/workers/filter", {}) or []
    since = datetime.fromisoformat(process.since)
    return any(
        worker["name"] == process.name
        and worker["status"] == "ONLINE"
        and datetime.fromisoformat(worker["last_heartbeat_time"]) >= since
        for worker in workers
    )
