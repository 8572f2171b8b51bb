"""All our patches and workarounds for Prefect: the fault, where it is reported, and the test that shows it.

`PATCHES` is the list. Each names a test in tests/server/test_prefect_patches.py that shows the fault in unpatched
Prefect. The test fails once Prefect has fixed it, and then the patch can go. Patches of Prefect's own code are in this
module and applied by `patched`; the others are in the place that `where` names.
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
"""State types in which a run has no process: suspended, or waiting to be restarted."""
NOT_REPORTED = "no upstream report found"
ISSUES = "https://github.com/PrefectHQ/prefect/issues/"
PULLS = "https://github.com/PrefectHQ/prefect/pull/"


@dataclass(frozen=True)
class Patch:
    """One patch or workaround.

    Attributes:
        where: The function or file that contains it.
        fault: What Prefect does without it.
        upstream: Links to reports, or that none was found.
        seen: Versions of Prefect in which the fault was seen.
        test: The test that shows the fault in unpatched Prefect.
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
        "the lists of worker and block types are requested from the internet before the package's own file is read",
        (f"{ISSUES}10343", f"{PULLS}11503"),
        BOTH,
        "test_lists_are_asked_for_on_the_internet_first",
    ),
    Patch(
        "server/prefect_patches.py: spare_runs_that_wait",
        "the automation for dead runs may mark a run Crashed that waits for a person and has no process",
        (f"{ISSUES}18653", f"{ISSUES}21932"),
        BOTH,
        "test_a_paused_run_can_be_marked_crashed",
    ),
    Patch(
        "server/prefect_patches.py: renew_windows",
        "a heartbeat window that ended while the server was down is closed at its start, before the run can send a heartbeat",
        (NOT_REPORTED,),
        BOTH,
        "test_a_window_that_ended_during_an_outage_is_closed_at_once",
    ),
    Patch(
        "server/retries.py",
        "on SQLite a transaction that reads and then writes fails at once if another one wrote in between (503)",
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
        "the server accepts any Host header, so a page elsewhere can point its own name at it",
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
        "descriptions of the API are served without a login",
        (NOT_REPORTED,),
        BOTH,
        "test_the_api_is_described_without_a_login",
    ),
    Patch(
        "server/logins.py",
        "logins can be guessed without a limit, and a login that is not ASCII causes a server error",
        (NOT_REPORTED,),
        BOTH,
        "test_wrong_logins_are_not_slowed_down",
    ),
    Patch(
        "server/environment.py: PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
        "leases are kept in memory: after a server restart slots stay taken, and limited runs are ended",
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
        "a run whose worker was killed stays Running, and dies when it next prints to the worker's pipe",
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
    """Apply our patches and return Prefect's app; call it before the app serves.

    Args:
        app: Prefect's app.
        lasting: Whether the server outlives runs, so that some may have been alive when it last stopped.
    """
    stay_offline()
    spare_runs_that_wait()
    if lasting:
        app.router.lifespan_context = _after_an_outage(app.router.lifespan_context)
    return app


def stay_offline() -> None:
    """Make Prefect read the lists of worker and block types from the package: it asks a host on the internet first."""
    for view in collections.KNOWN_VIEWS:
        collections.KNOWN_VIEWS[view] = (
            ""  # not a URL: the request fails before any connection, and Prefect falls back to the file
        )


def spare_runs_that_wait() -> None:
    """Make the automation that finds dead runs skip runs that have no process.

    It works by events. The last heartbeat of a process that suspends its run may come after the run's last other event, and on a busy
    database that event may be lost (both seen with Prefect 3.8.8). A run that waits for a person would then be Crashed and could
    never be answered. Prefect 3.9 handles events in the wrong order, but still does not look at the state of the run.
    """
    act: Any = ChangeFlowRunState.act

    async def act_unless_it_waits(self: Any, triggered_action: TriggeredAction) -> None:
        if triggered_action.automation.name == ZOMBIES:
            run = await self.flow_run(triggered_action)
            async with await self.orchestration_client(triggered_action) as orchestration:
                found = await orchestration.read_flow_run_raw(run)
            if found.status_code == 200 and found.json()["state_type"] in WAITING:
                raise ActionFailed(f"flow run {run} waits and has no process that could send heartbeats")
        await act(self, triggered_action)

    ChangeFlowRunState.act = act_unless_it_waits  # type: ignore[method-assign]  # a patch replaces the method


def _after_an_outage(lifespan: Callable[[Any], AbstractAsyncContextManager[Any]]) -> Callable[[Any], Any]:
    @asynccontextmanager
    async def renewed(app: Any) -> AsyncIterator[None]:
        await renew_windows()
        async with lifespan(app):
            yield

    return renewed


async def renew_windows() -> None:
    """Give every run that was alive before the server stopped a new heartbeat window.

    Without it, windows that ended meanwhile are closed while the server starts. A live run could be declared dead
    before it sends a heartbeat, and a dead one would stay Running for ever, because nothing acts on a trigger so early
    (seen with Prefect 3.8.8). With it, both cases are decided one window later.
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
        print(f"could not renew the heartbeat windows: {error}", file=sys.stderr)
