"""Prefect as it comes, without our patches: asks it for each fault that we work around, and prints what it found as JSON.

Run by test_prefect_patches.py in a process of its own, with an empty PREFECT_HOME and a login in the environment. Names are
not resolved in it, so nothing leaves the machine.
"""

import asyncio
import base64
import json
import os
import signal
import socket
import sqlite3
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import sqlalchemy
from asgi_lifespan import LifespanManager

asked = []


def no_names(host, *arguments, **options):
    asked.append(str(host))
    raise socket.gaierror("no names in this test")


class Busy(httpx.AsyncBaseTransport):
    """Asks again where the server answers 503: its services write to the same SQLite database, and on a slow machine they win for a while."""

    def __init__(self, app):
        self.inner = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def handle_async_request(self, request):
        for seconds in (0.5, 1, 2, 4, 8, 0):
            answer = await self.inner.handle_async_request(request)
            if answer.status_code != 503 or not seconds:
                return answer
            await asyncio.sleep(seconds)


LOGIN = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
HEADERS = {"Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode()}


async def schedules(client, flow):
    """Parameters of a schedule after it was switched; and how many are left after the deployment was registered again."""
    rule = {"interval": 3600, "timezone": "UTC"}
    body = {"name": "x", "flow_id": flow, "schedules": [{"active": True, "schedule": rule, "parameters": {"a": 1}}]}
    answer = await client.post("/api/deployments/", json=body)
    assert answer.is_success, (answer.status_code, answer.text)
    made = answer.json()
    place = f"/api/deployments/{made['id']}"
    await client.patch(f"{place}/schedules/{made['schedules'][0]['id']}", json={"active": False})
    switched = (await client.get(place)).json()["schedules"][0]["parameters"]
    await client.post("/api/deployments/", json={"name": "x", "flow_id": flow})
    return switched, len((await client.get(place)).json()["schedules"])


async def paused(client, flow):
    """The state of a run that was paused, after the action of our automation asked for Crashed."""
    run = (await client.post("/api/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}})).json()["id"]
    for state in ("PAUSED", "CRASHED"):  # the latter as ChangeFlowRunState asks for it
        await client.post(
            f"/api/flow_runs/{run}/set_state", json={"state": {"type": state}, "force": state == "PAUSED"}
        )
    return (await client.get(f"/api/flow_runs/{run}")).json()["state"]["type"]


async def windows(client):
    """How many windows of heartbeats are left after the server's first look, where one ended an hour ago."""
    from prefect.server.database import provide_database_interface
    from prefect.server.events import triggers

    trigger = {
        "type": "event",
        "posture": "Proactive",
        "after": ["prefect.flow-run.heartbeat"],
        "expect": ["prefect.flow-run.*"],
        "threshold": 1,
        "within": 90,
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
    }
    action = {"type": "change-flow-run-state", "state": "CRASHED"}
    made = await client.post(
        "/api/automations/", json={"name": "dead", "enabled": True, "trigger": trigger, "actions": [action]}
    )
    now, database = datetime.now(UTC), provide_database_interface()
    bucket = database.AutomationBucket
    values = {
        "automation_id": uuid.UUID(made.json()["id"]),
        "trigger_id": uuid.UUID(made.json()["trigger"]["id"]),
        "bucketing_key": ["prefect.flow-run.x"],
        "start": now - timedelta(hours=2),
        "end": now - timedelta(hours=1),
        "count": 0,
        "last_operation": "test",
    }
    async with database.session_context(begin_transaction=True) as session:
        await session.execute(sqlalchemy.insert(bucket).values(**values))
    await triggers.periodic_evaluation(now)
    async with database.session_context() as session:
        return (await session.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(bucket))).scalar()


async def locked():
    """What a transaction is told that reads, and writes after another one wrote; and how long it waited."""
    from prefect.server.database import provide_database_interface

    database = provide_database_interface()
    begun = asyncio.get_running_loop().time()
    try:
        async with database.session_context(begin_transaction=True) as session:
            await session.execute(sqlalchemy.select(database.Flow.id))
            with sqlite3.connect(Path(os.environ["PREFECT_HOME"]) / "prefect.db", timeout=60) as other:
                other.execute("update flow set updated = updated")
            await session.execute(sqlalchemy.update(database.Flow).values(name="y"))
    except sqlalchemy.exc.OperationalError as error:
        return str(error.orig), asyncio.get_running_loop().time() - begun
    return "", 0


async def template():
    """The environment that a run gets which sets one, from a template that has no variable for it."""
    from prefect.workers.process import ProcessJobConfiguration

    fixed = {"job_configuration": {"command": "true", "env": {}}, "variables": {"type": "object", "properties": {}}}
    return (
        await ProcessJobConfiguration.from_template_and_values(fixed, {"env": {"PYTHONPATH": "/bait"}}, client=object())
    ).env


async def wrong(client):
    """Statuses of wrong logins, one after the other, the last of them not ASCII; and the seconds that they took."""
    begun, found = asyncio.get_running_loop().time(), []
    for login in [f"x:{number}" for number in range(20)] + ["ä:ö"]:
        headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        try:
            found.append(
                (await client.get("/api/flows/00000000-0000-0000-0000-000000000000", headers=headers)).status_code
            )
        except TypeError:
            found.append(500)
    return found, asyncio.get_running_loop().time() - begun


async def pipe(folder):
    """Whether a run's process writes into a pipe of its worker."""
    from prefect.utilities.processutils import run_process

    code = "import os, stat, sys; open(sys.argv[1], 'w').write(str(stat.S_ISFIFO(os.fstat(1).st_mode)))"
    await run_process([sys.executable, "-c", code, str(folder / "pipe")], stream_output=True)
    return (folder / "pipe").read_text() == "True"


def signals():
    """Which signal a worker's handler of SIGTERM sends on."""
    from prefect.utilities import processutils

    sent = []
    processutils.os.kill, kill = lambda pid, number: sent.append(number), processutils.os.kill
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        processutils.setup_signal_handlers_worker(1, "worker", lambda text: None)
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
    finally:
        processutils.os.kill = kill
        for number, handler in kept.items():
            signal.signal(number, handler)
    return [signal.Signals(number).name for number in sent]


def pages():
    """Whether a script of the pages under /v2 names the analytics service."""
    import prefect.server

    folder = Path(prefect.server.__file__).parent / "ui-v2"
    return any("amplitude.com" in file.read_text(errors="replace") for file in folder.rglob("*.js"))


async def main():
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    socket.getaddrinfo = no_names
    app = create_app(final=True)
    async with (
        LifespanManager(app, startup_timeout=120, shutdown_timeout=60),
        httpx.AsyncClient(transport=Busy(app), base_url="http://evil.example") as client,
    ):
        described = (await client.get("/openapi.json")).status_code
        page = await client.get("/api/health")
        wrong_logins = await wrong(client)
        client.headers.update(HEADERS)
        await client.get("/api/collections/views/aggregate-worker-metadata")
        flow = (await client.post("/api/flows/", json={"name": "x"})).json()["id"]
        found = {
            "described": described,
            "foreign_host": page.status_code,
            "policy": page.headers.get("content-security-policy"),
            "wrong": wrong_logins,
            "asked": asked,
            "schedules": await schedules(client, flow),
            "paused": await paused(client, flow),
            "windows": await windows(client),
            "locked": await locked(),
            "template": await template(),
            "signals": signals(),
            "pages": pages(),
            "pipe": await pipe(Path(os.environ["PREFECT_HOME"])),
            "leases": get_current_settings().server.concurrency.lease_storage,
        }
    (Path(os.environ["PREFECT_HOME"]) / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
