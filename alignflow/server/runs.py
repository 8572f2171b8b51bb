"""Flow runs through the server's REST API, for the commands: runs that wait for a person, answers, new runs, logs. Does not import Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from alignflow.data.errors import UserError
from alignflow.server.api import Api
from alignflow.server.errors import ServerError

PAGE = 200
"""Most records that the server returns in one response."""
LATE_S = 10
"""Seconds by which an older line may reach the server after a newer one."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PAUSED = "PAUSED"
MOST_CHARACTERS = {"who": 100, "comment": 1000}
"""Most characters in each field of an answer's form; see `flows/approval.py`."""


class FlowRun(BaseModel):
    """A flow run as the server knows it.

    Attributes:
        id: Prefect's id.
        name: The run's name.
        state: Type of its state: SCHEDULED, PENDING, RUNNING, PAUSED, or one of ENDED.
        message: The state's message.
        since: When it entered this state, ISO time.
        url: Address of its page.
        asks: Whether it waits for the answer to a form; a run that somebody paused by hand does not.
    """

    id: str
    name: str
    state: str
    message: str = ""
    since: str = ""
    url: str = ""
    asks: bool = False


def suspended(api: Api) -> list[FlowRun]:
    """The suspended or paused flow runs, the longest wait first."""
    wanted = {"flow_runs": {"state": {"type": {"any_": [PAUSED]}}}, "sort": "START_TIME_ASC"}
    return [_run(api, record) for record in _all(api, "/flow_runs/filter", wanted)]


def answer(api: Api, text: str, approve: bool, who: str, comment: str) -> FlowRun:
    """Answer the question of the suspended run with this name or id prefix; returns the run.

    Raises:
        UserError: no suspended run matches, or several do; it was paused by hand; an answer is too long.
        ServerError: the server refuses the answer.
    """
    for field, value in {"who": who, "comment": comment}.items():
        if len(value) > MOST_CHARACTERS[field] or (field == "who" and not value):
            raise UserError(
                f"{len(value)} characters, and the form takes {1 if field == 'who' else 0} to {MOST_CHARACTERS[field]}",
                where=f"--{field}",
            )
    run = _one(suspended(api), text)
    if not run.asks:
        raise UserError(
            "somebody paused this run by hand, so it has no question to answer",
            where=run.name,
            do=f"resume it on its page: {run.url}",
        )
    given = {"approve": "yes" if approve else "no", "who": who, "comment": comment}
    said = api.post(f"/flow_runs/{run.id}/resume", {"run_input": given})
    if said is None or said["status"] != "ACCEPT":
        reason = (said or {}).get("details", {}).get("reason") or "the run is gone"
        raise ServerError(
            f"the server refuses the answer: {reason}", where=run.name, do="`alignflow status` lists the questions"
        )
    return run


def _one(found: Sequence[FlowRun], text: str) -> FlowRun:
    called = [run for run in found if run.name == text] or [run for run in found if run.id.startswith(text)]
    if len(called) == 1:
        return called[0]
    known = ", ".join(f"{run.id[:8]} ({run.name})" for run in called or found)
    if called:
        raise UserError("several suspended runs have this name", where=text, do=f"pass the start of an id: {known}")
    raise UserError(
        "no suspended run has this name, or an id that starts with it",
        where=text,
        do=f"these runs wait: {known}" if known else "no run of the server waits for a person",
    )


def submit(api: Api, deployment: str, parameters: Mapping[str, Any], name: str, tags: Sequence[str]) -> FlowRun:
    """Create a run of a deployment; with an empty `name` the flow names it.

    Raises:
        ServerError: the server has no such deployment, or refuses the parameters.
    """
    found = api.get(f"/deployments/name/{deployment}/{deployment}")
    if found is None:
        raise ServerError(
            f"the server has no deployment {deployment!r}",
            where=api.url,
            do="run `alignflow down`, then `alignflow up`: it registers the deployments of this version",
        )
    body = {"parameters": parameters, "tags": tags, "state": {"type": "SCHEDULED"}, **({"name": name} if name else {})}
    return _run(api, api.post(f"/deployments/{found['id']}/create_flow_run", body))


def look(api: Api, run: str) -> FlowRun:
    """The current state of a flow run; raises ServerError if somebody deleted it."""
    record = api.get(f"/flow_runs/{run}")
    if record is None:
        raise ServerError("somebody deleted this run on the server", where=run)
    return _run(api, record)


class RunLog:
    """The log of a run, read incrementally. Processes send lines in batches, so older lines may reach the server after newer ones."""

    def __init__(self, api: Api, run: str):
        self._api, self._run = api, run
        self._seen: set[str] = set()
        self._newest: datetime | None = None

    def new_lines(self) -> list[str]:
        """The lines that have not been read yet."""
        logs: dict[str, Any] = {"flow_run_id": {"any_": [self._run]}}
        if self._newest:
            logs["timestamp"] = {"after_": (self._newest - timedelta(seconds=LATE_S)).isoformat()}
        found = []
        for line in _all(self._api, "/logs/filter", {"logs": logs, "sort": "TIMESTAMP_ASC"}):
            if line["id"] not in self._seen:
                self._seen.add(line["id"])
                found.append(line["message"])
            written = datetime.fromisoformat(line["timestamp"])
            self._newest = max(written, self._newest or written)
        return found


def _all(api: Api, path: str, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    offset = 0
    while page := api.post(path, {**wanted, "limit": PAGE, "offset": offset}):
        yield from page
        offset += len(page)


def _run(api: Api, record: Mapping[str, Any]) -> FlowRun:
    state = record.get("state") or {}
    return FlowRun(
        id=record["id"],
        name=record["name"],
        state=state.get("type") or "SCHEDULED",
        message=state.get("message") or "",
        since=state.get("timestamp") or record.get("created") or "",
        url=f"{api.url.removesuffix('/api')}/v2/runs/flow-run/{record['id']}",
        asks=bool((state.get("state_details") or {}).get("run_input_keyset")),
    )
