"""Schedules of the deployments on a server: listed, added, paused, resumed, removed.

A schedule that is added here is a separate deployment with its parameters as defaults. Prefect can store parameters
with a schedule, but its server clears them whenever the schedule is switched on or off, on its page too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from alignflow.data.catalogue import suggest
from alignflow.data.errors import StageError, UserError
from alignflow.flows.recipe_values import of_one_recipe

SCHEDULE, FLOW = "schedule", "flow:"
"""Tags of a schedule's deployment: one that marks it, and one that names its flow."""


@dataclass(frozen=True)
class Scheduled:
    """One schedule.

    Attributes:
        slug: Its name.
        flow: The flow that it runs.
        when: The rule, as text.
        active: Whether it starts runs.
        parameters: Parameters of its runs.
        deployment: The deployment that has it.
        schedule_id: Its own id.
    """

    slug: str
    flow: str
    when: str
    active: bool
    parameters: Mapping[str, Any]
    deployment: DeploymentResponse
    schedule_id: UUID


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """A client of the server that the environment names; raises StageError with the server's message."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        said = (
            "the server requires a login (PREFECT_API_AUTH_STRING)"
            if error.response.status_code == 401
            else _detail(error.response)
        )
        raise StageError(said, where=str(error.request.url), do="`alignflow status` says where the server is") from None
    except httpx.TransportError as error:
        raise StageError(
            f"no server answers ({error})", where="PREFECT_API_URL", do="`alignflow up` starts one"
        ) from None


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {response.status_code}"


def listed(client: SyncPrefectClient) -> list[Scheduled]:
    """All schedules of all deployments, by name."""
    found = [
        Scheduled(
            schedule.slug or str(schedule.id)[:8],
            flow_of(deployment),
            when(schedule),
            schedule.active,
            {**deployment.parameters, **(schedule.parameters or {})},
            deployment,
            schedule.id,
        )
        for deployment in _deployments(client)
        for schedule in deployment.schedules
    ]
    return sorted(found, key=lambda scheduled: scheduled.slug)


def _deployments(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    offset = 0
    while page := client.read_deployments(limit=100, offset=offset):
        yield from page
        offset += len(page)


def when(schedule: DeploymentSchedule) -> str:
    """The rule of a schedule as text."""
    rule = schedule.schedule
    if isinstance(rule, CronSchedule):
        return f"cron {rule.cron} ({rule.timezone or 'UTC'})"
    if isinstance(rule, IntervalSchedule):
        return f"every {rule.interval.total_seconds():g} s"
    return str(getattr(rule, "rrule", rule))


def rule(cron: str | None, every: float | None, timezone: str) -> SCHEDULE_TYPES:
    """Parse the user's rule: a cron line in a time zone, or seconds between runs; raises UserError."""
    if (cron is None) == (every is None):
        raise UserError(
            "a schedule needs exactly one of --cron and --every",
            where="schedule add",
            do='--cron "0 2 * * *" is every night at two',
        )
    try:
        if cron is not None:
            return CronSchedule(cron=cron, timezone=timezone)
        return IntervalSchedule(
            interval=timedelta(seconds=every or 0), anchor_date=datetime.now(UTC), timezone=timezone
        )
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(
            said,
            where="--cron" if cron is not None else "--every",
            do='for example --cron "0 2 * * *", or --every 3600',
        ) from None


def add(
    client: SyncPrefectClient, deployment: str, schedule: SCHEDULE_TYPES, parameters: dict[str, Any], slug: str
) -> None:
    """Add a schedule; raises UserError for an unknown deployment, a name in use, or a wrong parameter."""
    try:
        found = client.read_deployment_by_name(f"{deployment}/{deployment}")
    except ObjectNotFound:
        known = sorted(each.name for each in _deployments(client))
        advice = suggest(deployment, known) if known else "`alignflow up` makes the deployments"
        raise UserError(f"the server has no deployment {deployment!r}", where="schedule add", do=advice) from None
    if slug in {scheduled.slug for scheduled in listed(client)} | {each.name for each in _deployments(client)}:
        raise UserError(
            f"the server already has a schedule {slug!r}", where="--name", do="choose another name, or remove it first"
        )
    for error in validate({**found.parameters, **parameters}, found.parameter_openapi_schema or {}):
        place = ".".join(map(str, error.absolute_path))
        raise UserError(
            error.message,
            where=f"{deployment}{f': {place}' if place else ''}",
            do="the form of the deployment lists its fields",
        )
    schema, description = of_one_recipe(
        found.parameter_openapi_schema or {}, found.description or "", deployment, parameters
    )
    client.create_deployment(
        found.flow_id,
        slug,
        entrypoint=found.entrypoint,
        work_pool_name=found.work_pool_name,
        parameters=parameters,
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
        description=description,
        tags=["alignflow", SCHEDULE, f"{FLOW}{deployment}"],
        schedules=[DeploymentScheduleCreate(schedule=schedule, active=True, slug=slug)],
    )


def flow_of(deployment: DeploymentResponse) -> str:
    """The name of the flow that a schedule's deployment runs, or the deployment's own name."""
    return next((tag.removeprefix(FLOW) for tag in deployment.tags if tag.startswith(FLOW)), deployment.name)


def one(client: SyncPrefectClient, slug: str) -> Scheduled:
    """The schedule of a name; raises UserError."""
    found = {scheduled.slug: scheduled for scheduled in listed(client)}
    if slug not in found:
        raise UserError(
            f"there is no schedule {slug!r}",
            where="schedule",
            do=suggest(slug, found) if found else "`alignflow schedule add` makes one",
        )
    return found[slug]


def set_active(client: SyncPrefectClient, slug: str, active: bool) -> None:
    """Resume or pause a schedule."""
    scheduled = one(client, slug)
    kept = next(each.parameters for each in scheduled.deployment.schedules if each.id == scheduled.schedule_id)
    client.update_deployment_schedule(scheduled.deployment.id, scheduled.schedule_id, active=active, parameters=kept)


def remove(client: SyncPrefectClient, slug: str) -> None:
    """Remove a schedule and the deployment that was made for it."""
    scheduled = one(client, slug)
    if SCHEDULE in scheduled.deployment.tags:
        client.delete_deployment(scheduled.deployment.id)
    else:
        client.delete_deployment_schedule(scheduled.deployment.id, scheduled.schedule_id)
