"""The server's process: Prefect's app behind the guard. Run as `python -m alignflow.server.app STORE` in its environment."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy
import uvicorn
from prefect.server.api import collections
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.server.events.actions import ActionFailed, ChangeFlowRunState

from alignflow.server.guard import Guard
from alignflow.server.home import Home
from alignflow.server.names import is_answered, is_own_origin
from alignflow.server.objects import CRASHED_AFTER_S, ZOMBIES
from alignflow.server.retries import Retries
from alignflow.server.settings import ServerSettings

WAITING = ("PAUSED", "SCHEDULED")
"""Types of states in which a run has no process: suspended, or to be started again."""
STARTUP_FAILED = 3
"""The exit status of a server that could not start, as uvicorn has it."""
SHUTDOWN_S = 5
"""How long open connections may take to end; a worker's websocket never ends by itself."""


def main() -> None:
    """Serve until SIGTERM."""
    serve(Home(Path(sys.argv[1])).settings())


def serve(settings: ServerSettings, listening: socket.socket | None = None) -> None:
    """Serve until SIGTERM.

    Args:
        settings: Address, names and certificate.
        listening: The socket of a temporary server, which is already bound; it serves one run: no pages, no schedules, no automations.
    """
    stay_offline()
    spare_runs_that_wait()
    app = create_app(final=True, ephemeral=listening is not None)
    if listening is None:
        app.router.lifespan_context = _after_an_outage(app.router.lifespan_context)
    guarded = Guard(Retries(app), lambda host: is_answered(host, settings), lambda origin, host: is_own_origin(origin, host, settings))
    config = uvicorn.Config(
        guarded, host=settings.host, port=settings.port, ssl_certfile=settings.tls_certificate, ssl_keyfile=settings.tls_key,
        log_level="warning", server_header=False, timeout_graceful_shutdown=1 if listening else SHUTDOWN_S,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.run(sockets=[listening] if listening else None)
    if not server.started:
        sys.exit(STARTUP_FAILED)


def stay_offline() -> None:
    """Have the lists of worker and block types read from the package: Prefect asks a host on the internet first."""
    for view in collections.KNOWN_VIEWS:
        collections.KNOWN_VIEWS[view] = ""  # no URL: its request fails before any connection, and it falls back to the file


def spare_runs_that_wait() -> None:
    """Have the automation that finds dead runs leave those alone that no process works on.

    It goes by events. A heartbeat of the process that suspends its run may come after the run's last other event, and on a busy
    database that event may be lost (both seen with Prefect 3.8.8): a run that waits for a person would be Crashed, and could
    never be answered.
    """
    act = ChangeFlowRunState.act

    async def act_unless_it_waits(self, triggered_action) -> None:
        if triggered_action.automation.name == ZOMBIES:
            run = await self.flow_run(triggered_action)
            async with await self.orchestration_client(triggered_action) as orchestration:
                found = await orchestration.read_flow_run_raw(run)
            if found.status_code == 200 and found.json()["state_type"] in WAITING:
                raise ActionFailed(f"flow run {run} waits, and has no process that could be heard from")
        await act(self, triggered_action)

    ChangeFlowRunState.act = act_unless_it_waits


def _after_an_outage(lifespan):
    @asynccontextmanager
    async def renewed(app) -> AsyncIterator[None]:
        await renew_windows()
        async with lifespan(app):
            yield

    return renewed


async def renew_windows() -> None:
    """Give every run that was alive before the server went away a new window in which to be heard from.

    Without it, windows that ended meanwhile are closed while the server starts: a run that lives could be declared dead
    before it is heard again, and one that died would stay Running for ever, since nothing acts on a trigger so early
    (seen with Prefect 3.8.8). With it, the one is heard and the other found one window later.
    """
    database = provide_database_interface()
    try:
        engine = await database.engine()
        async with engine.begin() as connection:
            if not await connection.run_sync(lambda sync: sqlalchemy.inspect(sync).has_table("automation_bucket")):
                return  # a new database
        bucket, automation = database.AutomationBucket, database.Automation
        now = datetime.now(UTC)
        ours = sqlalchemy.select(automation.id).where(automation.name == ZOMBIES)
        async with database.session_context(begin_transaction=True) as session:
            await session.execute(
                sqlalchemy.update(bucket)
                .where(bucket.automation_id.in_(ours))
                .values(start=now, end=now + timedelta(seconds=CRASHED_AFTER_S))
                .execution_options(synchronize_session=False)
            )
    except sqlalchemy.exc.SQLAlchemyError as error:
        print(f"windows of heartbeats could not be renewed: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
