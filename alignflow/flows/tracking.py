"""Sends a run to the experiment tracker of its recipe: settings, curves and metrics, read from its artifacts.

No trainer is involved, so a step that was found in the store is sent like one that ran. Everything is sent in a separate thread. Steps that
cannot be sent are counted and reported once, at the end of the run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.places import by_place
from alignflow.data.errors import cut
from alignflow.data.logins import without_logins
from alignflow.data.report.body import FinishedStep
from alignflow.flows.writer import Writer
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.trackers.base import State, TrackedRun, TrackedStep, Tracker, open_tracker

if TYPE_CHECKING:
    from alignflow.data.configs.recipe import Recipe
    from alignflow.flows.calls import Caller

LONGEST_VALUE = 500
"""Most characters of a setting; MLflow refuses much longer ones."""
LAST_WORDS_S = 60.0
"""Seconds that the end of a run waits for unsent steps."""
Track = Callable[[str, ArtifactRef, bool], None]
"""Called with the name of a step, its artifact, and whether it ran."""


@contextlib.contextmanager
def tracked(caller: Caller, run: str, tell: Callable[[str], None]) -> Iterator[Track]:
    """Track the run of this block, if its recipe names a tracker.

    Args:
        caller: Recipe and store.
        run: Id of the run's record.
        tell: Called at the end with where to find the run and what could not be sent.
    """
    if caller.recipe.tracking is None:
        yield lambda name, ref, ran: None
        return
    tracking = Tracking(caller.recipe, caller.store, run)
    try:
        yield tracking.step
    except BaseException as error:
        tracking.end("failed" if isinstance(error, Exception) else "killed", tell)
        raise
    tracking.end("finished", tell)


class Tracking:
    """One run at a tracker.

    Args:
        recipe: The recipe; it names a tracker.
        store: The store of its artifacts.
        run: Id of the run's record.
    """

    def __init__(self, recipe: Recipe, store: ArtifactStore, run: str):
        assert recipe.tracking is not None
        config = recipe.tracking
        tracked_run = TrackedRun(recipe.name, run, parameters_of(recipe))
        self._name, self._store = config.name, store
        self._asked = self._sent = 0
        self._ended = False
        self._where = ""
        self._errors: list[str] = []
        self._notes: list[str] = []
        self._writer: Writer[Tracker] = Writer(
            lambda: contextlib.nullcontext(open_tracker(config, tracked_run)), self._failed
        )

    def step(self, name: str, ref: ArtifactRef, ran: bool) -> None:
        """A step is done: send it after the earlier ones."""
        step = tracked_step(FinishedStep(name, self._store.directory(ref.key) / "payload"), ref, ran, self._notes)
        self._asked += 1

        def send(tracker: Tracker) -> None:
            tracker.step(step)
            self._sent += 1

        self._writer.later(send)

    def end(self, state: State, tell: Callable[[str], None]) -> None:
        """Wait for unsent steps, and say where to find the run and what was not sent."""

        def close(tracker: Tracker) -> None:
            self._where = tracker.where()
            tracker.end(state)
            self._ended = True

        self._writer.later(close)
        in_time = self._writer.close(LAST_WORDS_S)
        if self._where:
            tell(f"tracked: {self._where}")
        for note in self._notes:
            tell(note)
        if self._sent < self._asked or not self._ended:
            first = self._errors[0] if self._errors else "" if in_time else f"no answer within {LAST_WORDS_S:.0f} s"
            tell(
                f"tracking: {self._asked - self._sent} of {self._asked} steps were not sent to {self._name}; nothing is lost in the "
                f"store; run the recipe again to send them. {len(self._errors)} errors, the first: {first or 'none'}"
            )

    def _failed(self, error: Exception) -> None:
        self._errors.append(cut(without_logins(" ".join(f"{type(error).__name__}: {error}".split()))))


def tracked_step(step: FinishedStep, ref: ArtifactRef, ran: bool, notes: list[str]) -> TrackedStep:
    """A step in the form for a tracker; `notes` gets a line if a file of curves changed on disk."""
    points = step.curves()
    if step.left_out:
        notes.append(f"tracking: the curves of {step.name} changed on disk and were not sent")
    metrics = {name: value for name, value in step.metrics.items() if value is not None}
    return TrackedStep(step.name, points, metrics, ref.key, ref.digest, cached=not ran)


def parameters_of(recipe: Recipe) -> dict[str, str]:
    """Place -> value of every setting of a recipe except `tracking`; a long value is cut with a note."""
    settings = by_place(recipe.model_dump(mode="json", exclude={"tracking"}))
    return {place: _text(value) for place, value in settings.items() if value not in (None, {}, [])}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 40]} [cut: {len(text)} characters]"
