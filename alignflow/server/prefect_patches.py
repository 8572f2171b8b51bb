"""Every patch of Prefect, and every way around it, that we carry: what is wrong, where it is reported, and which test shows it.

`PATCHES` is the list. Each names a test in tests/server/test_prefect_patches.py that shows the fault on Prefect as it
comes: it fails once Prefect has changed, and then the patch can go. The patches that change Prefect's own code are in this
module, and applied by `patched`; the others are where `where` says.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from prefect.server.api import collections
from prefect.server.database import provide_database_interface
from prefect.server.events.actions import ActionFailed, ChangeFlowRunState
from prefect.server.events.schemas.automations import TriggeredAction

from alignflow.server.pools import CRASHED_AFTER_S, ZOMBIES

WAITING = ("PAUSED", "SCHEDULED")
"""Types of states in which a run has no process: suspended, or to be started again."""
NOT_REPORTED = "no upstream report found"
ISSUES = "https://github.com/PrefectHQ/prefect/issues/"
PULLS = "https://github.com/PrefectHQ/prefect/pull/"


@dataclass(frozen=True)
class Patch:
    """One thing that we do because Prefect does not.

    Attributes:
        where: The function or file that does it.
        fault: What Prefect does without it.
        upstream: Links, or that none was found.
        seen: Versions of Prefect in which the fault was seen.
        test: The test that shows the fault on Prefect as it comes.
    """

    where: str
    fault: str
    upstream: tuple[str, ...]
    seen: tuple[str, ...]
    test: str


BOTH = ("3.8.8", "3.9.1")

PATCHES = (
    Patch(
        "server/prefect_patches.py: stay_offline",
        "the lists of worker and block types are asked for on the internet before the package's own file is read",
        (f"{ISSUES}10343", f"{PULLS}11503"),
        BOTH,
        "test_lists_are_asked_for_on_the_internet_first",
    ),
    Patch(
        "server/prefect_patches.py: spare_runs_that_wait",
        "the automation against dead runs may mark a run Crashed that waits for a person and has no process",
        (f"{ISSUES}18653", f"{ISSUES}21932"),
        BOTH,
        "test_a_paused_run_can_be_marked_crashed",
    ),
    Patch(
        "server/prefect_patches.py: renew_windows",
        "a window of heartbeats that ended while the server was away is closed at its start, before the run can be heard again",
        (NOT_REPORTED,),
        BOTH,
        "test_a_window_that_ended_during_an_outage_is_closed_at_once",
    ),
    Patch(
        "server/retries.py",
        "on SQLite a transaction that reads and then writes fails at once where another one wrote in between (503)",
        (f"{ISSUES}10188", f"{ISSUES}18934", f"{PULLS}22967"),
        BOTH,
        "test_a_transaction_that_reads_first_cannot_write",
    ),
    Patch(
        "server/pools.py: job_template, server/job_variables.py",
        "a run may set the command, the environment and the directory of its process, and `env` is merged into a template that has none "
        "as a variable",
        (f"{ISSUES}15908",),
        BOTH,
        "test_a_template_without_the_variable_takes_an_environment",
    ),
    Patch(
        "server/guard.py: host, server/hostnames.py",
        "a request with any Host header is answered, so a page elsewhere can point a name of its own at the server",
        (NOT_REPORTED,),
        BOTH,
        "test_a_foreign_host_is_answered",
    ),
    Patch(
        "server/guard.py: POLICY",
        "the pages under /v2 contact an analytics service from the browser, whatever the settings say",
        (NOT_REPORTED,),
        BOTH,
        "test_pages_name_a_service_elsewhere_and_no_policy_forbids_it",
    ),
    Patch(
        "server/guard.py: DESCRIPTIONS",
        "descriptions of the API are served without the login",
        (NOT_REPORTED,),
        BOTH,
        "test_the_api_is_described_without_a_login",
    ),
    Patch(
        "server/logins.py",
        "wrong logins may be tried without a limit, and one that is not ASCII ends in an error of the server",
        (NOT_REPORTED,),
        BOTH,
        "test_wrong_logins_are_not_slowed_down",
    ),
    Patch(
        "server/environment.py: PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
        "leases are kept in memory: after a restart of the server slots stay taken, and limited runs are ended",
        (f"{PULLS}20090", f"{PULLS}20091"),
        BOTH,
        "test_leases_are_kept_in_memory",
    ),
    Patch(
        "flows/schedules.py: a deployment for each schedule",
        "the parameters of a schedule are emptied when it is switched on or off",
        (f"{ISSUES}17380", f"{ISSUES}17982"),
        BOTH,
        "test_parameters_of_a_schedule_are_lost_when_it_is_switched",
    ),
    Patch(
        "flows/deployments.py: _register",
        "registering a deployment again deletes its schedules",
        (f"{PULLS}23175",),
        BOTH,
        "test_registering_again_deletes_schedules",
    ),
    Patch(
        "server/flow_run.py, server/processes.py: marked",
        "a run of a worker that was killed stays Running, and dies at the next line that it prints into the worker's pipe",
        (f"{ISSUES}16746",),
        BOTH,
        "test_a_worker_reads_what_its_runs_print_through_a_pipe",
    ),
    Patch(
        "server/processes.py: _interruptible, server/remote_worker.py",
        "a worker that was started with SIGINT ignored, as a shell does in the background, cannot be stopped by SIGTERM",
        (NOT_REPORTED,),
        BOTH,
        "test_a_worker_turns_sigterm_into_sigint",
    ),
)


def patched(app: Any, *, lasting: bool = True) -> Any:
    """Prefect's app with our changes to Prefect in force; has to be called before it serves.

    Args:
        app: Prefect's app.
        lasting: Whether the server outlives runs, so that some may have been alive when it last went away.
    """
    stay_offline()
    spare_runs_that_wait()
    if lasting:
        app.router.lifespan_context = _after_an_outage(app.router.lifespan_context)
    return app


def stay_offline() -> None:
    """Have the lists of worker and block types read from the package: Prefect asks a host on the internet first."""
    for view in collections.KNOWN_VIEWS:
        collections.KNOWN_VIEWS[view] = (
            ""  # no URL: its request fails before any connection, and it falls back to the file
        )


def spare_runs_that_wait() -> None:
    """Have the automation that finds dead runs leave those alone that no process works on.

    It goes by events. A heartbeat of the process that suspends its run may come after the run's last other event, and on a busy
    database that event may be lost (both seen with Prefect 3.8.8): a run that waits for a person would be Crashed, and could
    never be answered. Prefect 3.9 keeps events that come in the wrong order, but still does not look at the state of the run.
    """
    act: Any = ChangeFlowRunState.act

    async def act_unless_it_waits(self: Any, triggered_action: TriggeredAction) -> None:
        if triggered_action.automation.name == ZOMBIES:
            run = await self.flow_run(triggered_action)
            async with await self.orchestration_client(triggered_action) as orchestration:
                found = await orchestration.read_flow_run_raw(run)
            if found.status_code == 200 and found.json()["state_type"] in WAITING:
                raise ActionFailed(f"flow run {run} waits, and has no process that could be heard from")
        await act(self, triggered_action)

    ChangeFlowRunState.act = act_unless_it_waits  # type: ignore[method-assign]  # that is what a patch is


def _after_an_outage(lifespan: Callable[[Any], AbstractAsyncContextManager[Any]]) -> Callable[[Any], Any]:
    @asynccontextmanager
    async def renewed(app: Any) -> AsyncIterator[None]:
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
