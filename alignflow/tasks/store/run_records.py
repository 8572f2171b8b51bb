"""The record of each run in the store: a small file under `runs/`, for comparing runs. Not part of any key.

A record is written at the start of a run, after each step that ran, and at the end. If it still says `running` but the run's process
is gone, the run was killed.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.gates import GateConfig
from alignflow.data.errors import AlignflowError, ApprovalNeededError, GateStoppedError
from alignflow.data.gates import GateRecord, finding
from alignflow.data.report.figures import Figures, figures_of
from alignflow.data.seals import sealed, unsealed
from alignflow.tasks.store.integrity import tell, write_synced
from alignflow.tasks.store.pins import RUNS, Pins

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

PATTERN = "run-*.json"
RUNNING, KILLED, DONE, CACHED, WAITS = "running", "killed", "done", "cached", "waits"
FINISHED = (DONE, CACHED)
"""States of runs that ended normally or were ended by a gate."""
_Result = TypeVar("_Result")


class Asked(BaseModel):
    """The request for a run.

    Attributes:
        name: The recipe's name.
        method: The method of its alignment; empty without one.
        recipe: Every value of the recipe that is not its default, including settings.
        file: The recipe's file; empty if unknown.
        settings: Place -> value, given on top of the file.
        smoke: Whether it was a --smoke run.
        only: The only requested step; empty for all.
        until: The last requested step; empty for all.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    method: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    file: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    smoke: bool = False
    only: str = ""
    until: str = ""


class Question(BaseModel):
    """The question of a run to a person at a gate.

    Attributes:
        gate: Label of the gate.
        key: Key of the artifact that the gate measured.
        text: The measured value, the limit, and the reason.
        suspended: Whether a server restarts the run once a person has answered; a run in a terminal has ended.
    """

    gate: str
    key: str
    text: str
    suspended: bool = False


class RunRecord(BaseModel):
    """One run.

    Attributes:
        id: The run's id; also the name of its file.
        asked: The request; None for a run of an older alignflow, which has only a report.
        state: running, done, cached (every step was found), failed, stopped (by a gate), waits (for a person), interrupted or killed.
        began: Start, ISO time, UTC.
        seconds: Duration; None while it runs and if it was killed.
        error: The error that stopped it, in one line; empty if there was none.
        steps: Step -> key of the artifact that it found or made, in the order of the run.
        ran: The steps that it ran.
        figures: Its results.
        process: Name of the lock that its process holds while it lives.
        flow_run: Id of Prefect's flow run; empty outside a flow. A run that a gate suspended keeps its id when it continues.
        question: The open question to a person, or None.
    """

    id: str
    asked: Asked | None
    state: str = RUNNING
    began: str
    seconds: float | None = None
    error: str = ""
    steps: dict[str, str] = Field(default_factory=dict)
    ran: list[str] = Field(default_factory=list)
    figures: Figures = Field(default_factory=Figures)
    process: str = ""
    flow_run: str = ""
    question: Question | None = None


@dataclass
class Recording:
    """Keeps the record of a run up to date. If it cannot be written, the run goes on."""

    store: ArtifactStore
    record: RunRecord
    _asks: bool = False

    def step(self, name: str, ref: ArtifactRef, ran: bool) -> None:
        """A step was found or made."""
        self.record.steps[name] = ref.key
        if ran:
            self.record.ran.append(name)
            self.write()

    def asking(
        self, ask: Callable[[GateConfig, GateRecord], _Result | None]
    ) -> Callable[[GateConfig, GateRecord], _Result | None]:
        """Wrap `ask`: a run that ends inside it is recorded as waiting for a person, unless an ordinary error ended it."""

        def asks(gate: GateConfig, measured: GateRecord) -> _Result | None:
            text = finding(gate, measured.value) + (f" ({gate.why})" if gate.why else "")
            self.record.question = Question(gate=gate.label, key=measured.key, text=text)
            self._asks = True
            try:
                answer = ask(gate, measured)
            except Exception:  # Prefect ends a waiting process with a BaseException, not with this
                self._asks = False
                raise
            self._asks = False
            if answer is not None:
                self.record.question = None
            return answer

        return asks

    def end(self, error: BaseException | None, seconds: float) -> None:
        """The run ended, with or without an error."""
        self.record.state = self._state(error)
        if self.record.state != WAITS:
            self.record.question = None
        elif self.record.question:
            self.record.question.suspended = self._asks
        self.record.error = _line(error) if isinstance(error, Exception) else ""
        self.record.seconds = round(seconds, 2)
        self.write()

    def write(self) -> None:
        """Write the current state."""
        with contextlib.suppress(AlignflowError):
            found = {name: self.store.manifest(key) for name, key in self.record.steps.items()}
            self.record.figures = figures_of(found)
        try:
            write_synced(self.store.root / "runs" / f"{self.record.id}.json", _text(self.record))
        except (OSError, ValueError) as error:
            tell(
                f"the record of this run cannot be written ({error}): `alignflow runs` will not show its current state"
            )

    def _state(self, error: BaseException | None) -> str:
        if error is None:
            return DONE if self.record.ran else CACHED
        if self._asks or isinstance(error, ApprovalNeededError):
            return WAITS
        if isinstance(error, GateStoppedError):
            return "stopped"
        return "failed" if isinstance(error, Exception) else "interrupted"


@contextlib.contextmanager
def recording(store: ArtifactStore, asked: Asked, pins: Pins, flow_run: str = "") -> Iterator[Recording]:
    """Record the run of this block.

    Args:
        store: The store of the record.
        asked: The request.
        pins: The run's pins; their lock shows others that this process lives.
        flow_run: Id of Prefect's flow run; empty outside a flow.
    """
    began = datetime.now(UTC).isoformat(timespec="milliseconds")
    name = f"run-{time.time_ns():020d}-{secrets.token_hex(4)}"
    kept = Recording(store, RunRecord(id=name, asked=asked, began=began, process=pins.lock, flow_run=flow_run))
    started = time.monotonic()
    pins.add(f"{RUNS}{name}.json")
    kept.write()
    try:
        yield kept
    except BaseException as error:
        kept.end(error, time.monotonic() - started)
        raise
    kept.end(None, time.monotonic() - started)


def records(store: ArtifactStore) -> Iterator[RunRecord]:
    """All recorded runs, newest first; damaged records are left out with a note."""
    for record in written(store.root):
        if record.state == RUNNING and not (record.process and store.is_locked(record.process)):
            record.state = KILLED
        yield record


def written(root: Path) -> Iterator[RunRecord]:
    """The records in the store at `root` as written, newest first; empty if there is no store."""
    for file in sorted((root / "runs").glob(PATTERN), reverse=True):
        try:
            yield read_run(file)
        except OSError:  # gc has removed it meanwhile
            continue
        except ValueError as error:
            tell(f"a run is left out: runs/{file.name} is damaged ({' '.join(str(error).split())[:200]})")


def read_run(file: Path) -> RunRecord:
    """Read a record; raises OSError, or ValueError if it is damaged."""
    return RunRecord.model_validate(unsealed(file.read_bytes()))


def _line(error: Exception) -> str:
    """Where and what, without the advice."""
    what = f"{error.where}: {error.what}" if isinstance(error, AlignflowError) and error.where else str(error)
    return " ".join(what.split())


def _text(record: RunRecord) -> str:
    return sealed(record.model_dump(mode="json"), indent=1).decode()
