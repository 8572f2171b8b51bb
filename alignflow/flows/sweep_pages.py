"""A sweep on the server's page: a flow run for each member, and a table and a picture that grow with every member."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed, State

from alignflow.data.errors import AlignflowError
from alignflow.data.report.sweep import COLUMNS, by_family, cells, page
from alignflow.flows.pipeline import Outcome
from alignflow.flows.run_pages import LAST_WORDS_S, PageWriter, slug
from alignflow.flows.sweep import Member, Result

MEMBER = "sweep-member"
"""The name of the flow of a member."""


class SweepPages:
    """Shows a sweep on the server's page; a context manager inside its flow.

    Args:
        recipe: Name of the recipe.
        planned: Number of members.
    """

    def __init__(self, recipe: str, planned: int):
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None, "a sweep is told inside a flow"
        self._recipe, self._planned, self._run = recipe, planned, context.flow_run.id
        self._log = get_run_logger()
        self._writer = PageWriter(self._log.warning)
        self._results: list[Result] = []
        self._written: dict[str, Any] = {}

    def __enter__(self) -> SweepPages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._writer.close(LAST_WORDS_S)

    def done(self, member: Member, result: Result) -> None:
        """A member ended: add its line to the log, the table and the page."""
        self._results.append(result)
        said = f"failed: {result.error}" if result.error else "  ".join(cells(result)[3:])
        self._log.info("%s  %d of %d  %s", member.name, len(self._results), self._planned, said)
        if result.not_learnt:
            self._log.warning("%s may not have learnt: %s", member.name, result.not_learnt)
        results = by_family(self._results)
        self._writer.later(lambda client: self._write(client, results))

    def _write(self, client: SyncPrefectClient, results: Sequence[Result]) -> None:
        rows = [dict(zip(COLUMNS, cells(result), strict=True)) for result in results]
        self._put(client, "table", "sweep-table", json.dumps(rows, ensure_ascii=False), "members of the sweep")
        shown = page(self._recipe, results, self._planned)
        self._put(client, "markdown", "sweep", shown, "table and picture of the sweep")

    def _put(self, client: SyncPrefectClient, kind: str, name: str, data: str, description: str) -> None:
        if name in self._written:
            client.update_artifact(self._written[name], ArtifactUpdate(data=data))
            return
        key = f"{slug(self._recipe)}-{name}"
        made = ArtifactCreate(type=kind, key=key, data=data, description=description, flow_run_id=self._run)
        self._written[name] = client.create_artifact(made).id


def as_run(member: Member, work: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Run a member as a separate flow run inside the sweep's; raises its AlignflowError."""
    found: list[Outcome] = []
    stopped: list[AlignflowError] = []

    @flow(name=MEMBER, flow_run_name=member.name.replace("{", "(").replace("}", ")"), persist_result=False)
    def run_member() -> State[Any]:
        try:
            found.extend(work())
        except AlignflowError as error:
            get_run_logger().error("%s", error)
            stopped.append(error)
            return Failed(message=str(error))
        return Completed(message=f"{len(found)} steps")

    state = run_member(return_state=True)
    if stopped:
        raise stopped[0]
    state.result(raise_on_failure=True)  # whatever else ended it
    return found
