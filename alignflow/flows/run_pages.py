"""A run on the server's page: artifact pages, tables, live progress, the stage's log.

Everything is written in a separate thread, so that a slow server delays no stage, and an absent one costs a
warning, never a run.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound

from alignflow.data.artifacts import Manifest
from alignflow.data.catalogue import STAGES
from alignflow.data.gates import GateRecord, finding
from alignflow.data.number_text import number_text
from alignflow.data.printable import printable
from alignflow.data.report.metrics import key_metrics
from alignflow.data.report.summary import Circumstances, overview, page_key, stage_page, tables
from alignflow.data.step_names import base_and_round
from alignflow.flows.forms import pipeline_form, prefilled, stage_form
from alignflow.flows.pipeline import Narrator, Outcome
from alignflow.flows.requests import RunRequest
from alignflow.flows.writer import Writer
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.shards import LOGS, launches_of, number_of
from alignflow.tasks.launch.tail import Tail, Tails
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.dashboard import ARTIFACT_KEY, RUNS_OF_THE_STORE, runs_markdown, shown_runs, write_dashboard

PROGRESS_EVERY_S = 2.0
LOGGED_EVERY_S = 15.0
LAST_WORDS_S = 30.0
ARTIFACT = "/v2/artifacts/artifact/{id}"
Work = Callable[[SyncPrefectClient], Any]


class PageWriter(Writer[SyncPrefectClient]):
    """Writes to the Prefect server; warns about failures once."""

    def __init__(self, warn: Callable[[str], None]):
        self._warn, self._warned = warn, False
        super().__init__(lambda: get_client(sync_client=True), self._tell)

    def _tell(self, error: Exception) -> None:
        if not self._warned:
            self._warn(f"pages of this run could not be written: {type(error).__name__}: {error}")
        self._warned = True


@dataclass
class _Running:
    """The step that runs now."""

    name: str
    tails: tuple[Tail | Tails, ...]
    shown: float = 0.0
    logged: float = 0.0
    told: bool = False
    artifact: Any = None  # the id of its progress artifact, once the server has assigned it


class Story:
    """Shows a run of a recipe on the server's page. A context manager inside the flow; its narrator listens to the walk.

    Args:
        recipe: Name of the recipe.
        store: The store of its artifacts.
        asked: The request, for links that run a stage again; None without a recipe file.
        notes: Origins of inputs, one line each.
    """

    def __init__(
        self, recipe: str, store: ArtifactStore, asked: RunRequest | None = None, notes: list[str] | None = None
    ):
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None, "a story is told inside a flow"
        self._run, self._flow = context.flow_run, context.flow.name if context.flow else ""
        self._recipe, self._store, self._asked, self._notes = recipe, store, asked, list(notes or ())
        self._log = get_run_logger()
        self._writer = PageWriter(self._log.warning)
        self._running: _Running | None = None
        self._lines: list[dict[str, Any]] = []
        self._whys: dict[str, str] = {}
        self._pages: dict[str, str] = {}
        self._gates: list[GateRecord] = []
        self.narrator = Narrator.of(self)

    def __enter__(self) -> Story:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop()
        if kind is None or issubclass(kind, Exception):
            if error is not None:
                self._notes.append(f"stopped: {error}")
            self._writer.later(self._write_overview)
            self._writer.later(self._write_runs)
            self._writer.close(LAST_WORDS_S)

    def starts(self, call: StageCall, why: str) -> None:
        """A step starts: from now on its log goes to the run's log."""
        self._log.info("%s runs: %s", call.name, why)
        self._whys[call.name] = why
        log = self._store.area(call.key) / "side" / "log.txt"
        tails: list[Tail | Tails] = [Tail(log, lambda line: self._say(call.name, line)), *self._shard_tails(call)]
        self._running = _Running(call.name, tuple(tails), logged=time.monotonic())

    def _shard_tails(self, call: StageCall) -> Iterator[Tails]:
        """Follow the logs of a call's shards, which are separate processes."""
        count = call.sharding.shards
        if count > 1:
            launches = launches_of(self._store.work(call.key))
            yield Tails(launches, LOGS, lambda log, line: self._say(f"{call.name} {number_of(log)}/{count}", line))

    def _say(self, who: str, line: str) -> None:
        self._log.info("%s: %s", who, printable(line))

    def progress(self, name: str, state: dict[str, Any]) -> None:
        """Progress of the running step; shown at most every two seconds and logged every fifteen."""
        running, now = self._running, time.monotonic()
        if running is None or running.name != name or "note" in state:
            return  # a note is in the run's log already
        if "waits" in state:
            self._log.info("%s", progress_line(name, state))
            self._show_progress(running, 0.0, progress_line(name, state))
            return
        if now - running.logged >= LOGGED_EVERY_S:
            running.logged = now
            self._log.info("%s", progress_line(name, state))
        if now - running.shown >= PROGRESS_EVERY_S and self._writer.idle:
            running.shown = now
            self._show_progress(running, 100.0 * state["done"] / max(state["total"], 1), progress_line(name, state))

    def ends(self, outcome: Outcome) -> None:
        """A step is done; if it ran, it gets a page and tables."""
        running = self._stop()
        if running and running.told:
            self._show_progress(running, 100.0, f"{outcome.name}: done in {outcome.seconds:.1f} s")
        self._log.info(
            "%s %s: %s", outcome.name, f"ran in {outcome.seconds:.1f} s" if outcome.ran else "cached", outcome.ref.key
        )
        manifest = self._store.manifest(outcome.ref.key)
        for warning in manifest.warnings if outcome.ran else ():
            self._log.warning("%s: %s", outcome.name, warning)
        self._lines.append(
            {
                "name": outcome.name,
                "ran": outcome.ran,
                "seconds": outcome.seconds,
                "key": outcome.ref.key,
                "metrics": key_metrics(outcome.name, manifest),
            }
        )
        if outcome.ran:
            gates = (
                tuple(self._gates) if manifest.stage == "report" else ()
            )  # all other gates are checked after this page is written
            self._writer.later(lambda client: self._write_stage(client, outcome, manifest, gates))

    def repairs(self, name: str, why: str) -> None:
        """An artifact was damaged; its step runs again."""
        self._stop()
        self._log.warning("%s was damaged and runs again: %s", name, why)
        self._notes.append(f"{name} was damaged and was made again")

    def gates(self, record: GateRecord) -> None:
        """A gate passed or failed; the overview shows its verdict too."""
        line = f"gate {record.gate}: {finding(record, record.value)}: {record.verdict}" + (
            f" by {record.who}" if record.who else ""
        )
        self._log.info("%s", line)
        self._gates.append(record)

    def remarks(self, text: str) -> None:
        """A remark about the recipe's data, for the log and the overview."""
        self._log.warning("%s", text)
        self._notes.append(text)

    def _stop(self) -> _Running | None:
        running, self._running = self._running, None
        if running:
            for tail in running.tails:
                tail.close()
        return running

    def _show_progress(self, running: _Running, percent: float, line: str) -> None:
        task = TaskRunContext.get()
        task_run = task.task_run.id if task else None

        def write(client: SyncPrefectClient) -> None:
            if running.artifact is not None:
                client.update_artifact(running.artifact, ArtifactUpdate(data=percent, description=line))
            else:
                key = f"{slug(self._recipe)}-{slug(running.name)}-progress"
                made = ArtifactCreate(
                    type="progress",
                    key=key,
                    data=percent,
                    description=line,
                    flow_run_id=self._run.id,
                    task_run_id=task_run,
                )
                running.artifact = client.create_artifact(made).id

        running.told = True
        self._writer.later(write)

    def _write_stage(
        self, client: SyncPrefectClient, outcome: Outcome, manifest: Manifest, gates: Sequence[GateRecord]
    ) -> None:
        """Write pages of the inputs that have none yet, the page of the step's artifact, and tables."""
        name, path = outcome.name, self._store.payload(manifest.ref())
        self._find_pages(client, [ref.key for ref in manifest.inputs.values()])
        for input_name, ref in manifest.inputs.items():
            if ref.key not in self._pages:
                taken = self._store.manifest(ref.key)
                page = stage_page(taken.stage, taken, self._store.payload(taken.ref()), Circumstances(self._recipe))
                self._write_page(client, taken.key, page, f"{input_name} of {name}: summary")
        report = str(path.parent / "side" / "report.html") if manifest.stage == "report" else ""
        circumstances = Circumstances(
            self._recipe,
            self._whys.get(name, ""),
            outcome.seconds,
            self._notes,
            self._again(client, name),
            self._pages,
            gates,
            report,
        )
        self._write_page(client, manifest.key, stage_page(name, manifest, path, circumstances), f"{name}: summary")
        for title, rows in tables(name, path).items():
            key = f"{slug(self._recipe)}-{slug(name)}-{title}"
            self._write(client, "table", key, json.dumps(rows, ensure_ascii=False), f"{name}: {title}")

    def _write_overview(self, client: SyncPrefectClient) -> None:
        self._find_pages(client, [line["key"] for line in self._lines])
        own = self._own_form(client)
        links = {"Run this again with these parameters": own} if own else {}
        page = overview(f"{self._recipe}: {self._flow}", self._lines, links, self._notes, self._gates, self._pages)
        self._write(
            client, "markdown", f"{slug(self._recipe)}-{slug(self._flow)}-overview", page, "overview of the run"
        )

    def _write_runs(self, client: SyncPrefectClient) -> None:
        """Write the store's dashboard and the list of its runs."""
        lines = shown_runs(self._store)
        write_dashboard(self._store, lines=lines)
        self._write(client, "markdown", ARTIFACT_KEY, runs_markdown(self._store, lines), RUNS_OF_THE_STORE)

    def _find_pages(self, client: SyncPrefectClient, keys: Sequence[str]) -> None:
        """Look up which of these artifacts already have a page on the server."""
        wanted = {page_key(key): key for key in keys if key not in self._pages}
        if wanted:
            for found in client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=list(wanted)))
            ):
                self._pages[wanted[found.key or ""]] = ARTIFACT.format(id=found.id)

    def _write_page(self, client: SyncPrefectClient, key: str, page: str, description: str) -> None:
        self._pages[key] = ARTIFACT.format(id=self._write(client, "markdown", page_key(key), page, description))

    def _write(self, client: SyncPrefectClient, kind: str, key: str, data: str, description: str) -> Any:
        made = ArtifactCreate(type=kind, key=key, data=data, description=description, flow_run_id=self._run.id)
        return client.create_artifact(made).id

    def _again(self, client: SyncPrefectClient, step: str) -> str:
        """The address of a form that runs a step again with the same parameters; empty if there is no deployment."""
        if step == self._flow:
            return self._own_form(client)
        if self._asked is None or self._asked.smoke:
            return ""
        base, round = base_and_round(step)
        fields, others = prefilled(stage_form(base), self._asked.settings) if base in STAGES else ({}, [])
        parameters = {"recipe": self._asked.path, "settings": fields, "more": others, "round": round}
        return form_address(client, base, parameters)

    def _own_form(self, client: SyncPrefectClient) -> str:
        if self._run.deployment_id:
            return address(self._run.deployment_id, self._run.parameters)
        if self._asked is None:
            return ""
        fields, others = prefilled(pipeline_form(), self._asked.settings)
        parameters = {"recipe": self._asked.path, "settings": fields, "more": others, "smoke": self._asked.smoke}
        return form_address(client, "pipeline", parameters)


def form_address(client: SyncPrefectClient, name: str, parameters: dict[str, Any]) -> str:
    """The address of a deployment's filled form; empty if there is no deployment of this name."""
    try:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        return ""
    return address(deployment.id, {name: value for name, value in parameters.items() if value})


def address(deployment: Any, parameters: dict[str, Any]) -> str:
    """The address of a deployment's form with these parameters, from the root of the server."""
    return f"/v2/deployments/deployment/{deployment}/run?parameters={quote(json.dumps(parameters), safe='')}"


def slug(text: str) -> str:
    """A text in the form that the server accepts for keys: lower case, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


def progress_line(name: str, state: dict[str, Any]) -> str:
    """A step's progress in one line: what is done, figures, time left."""
    if "waits" in state:
        return printable(f"{name} waits: {state['waits']}")
    parts = [f"{name}: {state['done']}/{state['total']} {state['unit']}"]
    for figure, value in state.get("figures", {}).items():
        parts.append(f"{value:,.0f} tokens/s" if figure == "tokens_per_s" else f"{figure} {number_text(value)}")
    if state.get("left_s") is not None:
        parts.append(f"{state['left_s']:.0f} s left")
    return ", ".join(parts)
