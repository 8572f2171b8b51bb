"""What the store keeps of each run: a small file under `runs/`, for people who compare runs. It is part of no key.

A record is written as a run begins, after each step that ran, and at the end. One that still says `running` although the process of its run
is gone is that of a run that was killed.
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
"""States of runs that came to their end, or to that which a gate set."""
_Result = TypeVar("_Result")


class Asked(BaseModel):
    """What a person asked for.

    Attributes:
        name: The recipe's name.
        method: The method of its alignment; empty without one.
        recipe: Every value of the recipe that is not its default, settings included.
        file: The recipe's file; empty where it is not known.
        settings: Place -> value, as given over the file.
        smoke: Whether everything was done in small.
        only: The one step that was asked for; empty for all.
        until: The last step that was asked for; empty for all.
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
    """What a run asks a person at a gate.

    Attributes:
        gate: Label of the gate.
        key: Key of the artifact that the gate measured.
        text: What was measured, what it should be, and why.
        suspended: Whether a server starts the run again once a person has answered; a run in a terminal has ended.
    """

    gate: str
    key: str
    text: str
    suspended: bool = False


class RunRecord(BaseModel):
    """One run.

    Attributes:
        id: Its own; also the name of its file.
        asked: What was asked for; None for a run of an older alignflow, of which a report alone is left.
        state: running, done, cached (every step was found), failed, stopped (by a gate), waits (for a person), interrupted or killed.
        began: ISO time, UTC.
        seconds: How long it took; None while it runs, and for one that was killed.
        error: What stopped it, in one line; empty where nothing did.
        steps: Step -> key of the artifact that it found or made, in the order of the run.
        ran: The steps that it made.
        figures: What came of it.
        process: The lock that its process holds as long as it lives.
        flow_run: Id of Prefect's flow run; empty outside one. A run that a gate suspended has the same id when it goes on.
        question: What the run asks a person; None where it asks nothing, or has its answer.
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
    """Keeps the record of one run up to date. A record that cannot be written stops no run."""

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
        """`ask`, so that a run which ends inside of it is known to wait for a person, unless an ordinary error ended it."""

        def asks(gate: GateConfig, measured: GateRecord) -> _Result | None:
            text = finding(gate, measured.value) + (f" ({gate.why})" if gate.why else "")
            self.record.question = Question(gate=gate.label, key=measured.key, text=text)
            self._asks = True
            try:
                answer = ask(gate, measured)
            except Exception:  # Prefect's own end of a process that waits is none
                self._asks = False
                raise
            self._asks = False
            if answer is not None:
                self.record.question = None
            return answer

        return asks

    def end(self, error: BaseException | None, seconds: float) -> None:
        """The run ended, by an error or without."""
        self.record.state = self._state(error)
        if self.record.state != WAITS:
            self.record.question = None
        elif self.record.question:
            self.record.question.suspended = self._asks
        self.record.error = _line(error) if isinstance(error, Exception) else ""
        self.record.seconds = round(seconds, 2)
        self.write()

    def write(self) -> None:
        """Write what is known now."""
        with contextlib.suppress(AlignflowError):
            found = {name: self.store.manifest(key) for name, key in self.record.steps.items()}
            self.record.figures = figures_of(found)
        try:
            write_synced(self.store.root / "runs" / f"{self.record.id}.json", _text(self.record))
        except (OSError, ValueError) as error:
            tell(f"`alignflow runs` will not show this run as it is: its record cannot be written ({error})")

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
    """Record the run that goes on in this block.

    Args:
        store: Where.
        asked: What was asked for.
        pins: What the run uses; its lock tells others that this process lives.
        flow_run: Id of Prefect's flow run; empty outside one.
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
    """All runs that the store has a record of, newest first; what is damaged is left out, and told of."""
    for record in written(store.root):
        if record.state == RUNNING and not (record.process and store.is_locked(record.process)):
            record.state = KILLED
        yield record


def written(root: Path) -> Iterator[RunRecord]:
    """The records in the store at `root` as they were written, newest first; none where there is no store."""
    for file in sorted((root / "runs").glob(PATTERN), reverse=True):
        try:
            yield read_run(file)
        except OSError:  # gc was faster
            continue
        except ValueError as error:
            tell(f"a run is left out: runs/{file.name} is damaged ({' '.join(str(error).split())[:200]})")


def read_run(file: Path) -> RunRecord:
    """One record; raises OSError, or ValueError where its bytes are not those that were written."""
    return RunRecord.model_validate(unsealed(file.read_bytes()))


def _line(error: Exception) -> str:
    """Where and what, without the advice for whoever saw it happen."""
    what = f"{error.where}: {error.what}" if isinstance(error, AlignflowError) and error.where else str(error)
    return " ".join(what.split())


def _text(record: RunRecord) -> str:
    return sealed(record.model_dump(mode="json"), indent=1).decode()
