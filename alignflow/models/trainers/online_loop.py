"""The loop of a training that samples: updates, states, alarms, curves and samples. A family defines an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from alignflow.data.configs.training import AlignConfig
from alignflow.data.configs.watched import AlarmOptions
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.engines.base import Kept
from alignflow.models.trainers.alarms import ringing
from alignflow.models.trainers.event_files import EventFiles
from alignflow.models.trainers.figures import rounded
from alignflow.models.trainers.kept_lines import KeptLines
from alignflow.models.trainers.saved_state import SavedStates
from alignflow.models.trainers.state_schedule import StateSchedule

GOOD = "good"


@dataclass(frozen=True)
class Updated:
    """What an update reports.

    Attributes:
        figures: A point of the curves, over all processes.
        watched: Figures for the alarms; see `alarms.Figures`.
        samples: Lines of the table of samples, of this process.
    """

    figures: dict[str, float]
    watched: dict[str, float | None]
    samples: list[dict[str, Any]] = field(default_factory=list)


class Updates(Protocol):
    """The updates of a family, which the loop calls in their order."""

    def update(self, number: int, show: bool) -> Updated:
        """Sample, score and step; `show`: whether to return lines of samples."""

    def state(self) -> dict[str, Any]:
        """State of earlier updates that later ones need; JSON."""

    def take_up(self, extra: Mapping[str, Any]) -> None:
        """Continue from the result of `state`, after the engines were loaded."""

    def finish(self) -> None:
        """Called after the last update; raises TrainingError if nothing was learnt."""


class LoopOptions(Protocol):
    """The options of a method that the loop reads."""

    @property
    def on_alarm(self) -> Literal["warn", "stop"]:
        """Action of an alarm."""

    @property
    def alarms(self) -> AlarmOptions:
        """Their limits."""

    @property
    def samples(self) -> int:
        """Answers in a table of samples."""

    @property
    def samples_steps(self) -> int:
        """Updates between the tables."""


def check_updates(total: int) -> None:
    """Raise TrainingError for a training without updates."""
    if total == 0:
        raise TrainingError(
            "zero updates", where="align", do="set max_steps, total_episodes or num_train_epochs to a larger value"
        )


class OnlineLoop:
    """Runs updates, with what all families share: states and lines on disk, alarms that may end the training.

    Args:
        updates: The family's updates.
        engines: What states hold: the engine `policy`, and everything else with a state.
        options: Options of alarms and samples.
        run: Directories and listeners.
        total: Number of updates.
        config: Has the number of updates between points of the curves, and the most between states.
    """

    def __init__(
        self,
        updates: Updates,
        engines: Mapping[str, Kept],
        options: LoopOptions,
        run: Run,
        total: int,
        config: AlignConfig,
    ):
        self._work, self._engines, self._options, self._run = updates, engines, options, run
        self._total, self._config = total, config
        self.history: list[dict[str, float | None]] = []
        self.rings: list[str] = []  # alarms whose condition held at the last update
        self.alarms: list[dict[str, Any]] = []  # reported alarms, as in their lines
        self.files = {name: KeptLines(run, name) for name in ("curves", "samples", "alarms")}

    def run_all(self) -> dict[str, float | None]:
        """Run the remaining updates; returns the last one's figures, `updates`, `episodes` and `alarms`."""
        states = SavedStates(self._run.work, self._run.warn, self._run.note)
        good = SavedStates(self._run.work / GOOD, note=self._run.note)
        start = self._resume(states)
        with closing(EventFiles(self._run)):
            return self._updates(start, states, good)

    def _updates(self, start: int, states: SavedStates, good: SavedStates) -> dict[str, float | None]:
        stops, last = self._options.on_alarm == "stop", dict[str, float]()
        schedule = StateSchedule(self._config.save_steps, start)
        policy = {"policy": self._engines["policy"]}
        if stops and start == 0:
            good.save(0, policy)
        for number in range(start, self._total):
            found = self._work.update(number, self._shows(number))
            last = found.figures
            self.record(number, last)
            for line in found.samples:
                self.files["samples"].write(number + 1, line)
            self._ring(number, found.watched)
            if stops and self.rings:
                return self._stop(number, good, last)
            if stops:
                good.save(number + 1, policy)
            if number + 1 < self._total and schedule.due(number + 1):
                with schedule.saving(number + 1):
                    states.save(number + 1, self._engines, self._extra())
        self._work.finish()
        return self._metrics(last, self._total)

    def _shows(self, number: int) -> bool:
        step = number + 1
        return bool(self._options.samples) and (step % self._options.samples_steps == 0 or step in (1, self._total))

    def record(self, number: int, figures: dict[str, float]) -> None:
        """Report the figures of an update, with a point of the curves if one is due."""
        self._run.progress(number + 1, self._total, "updates", **rounded(figures))
        if (number + 1) % self._config.logging_steps == 0 or number + 1 in (1, self._total):
            self.files["curves"].write(number + 1, figures)

    def _ring(self, number: int, figures: dict[str, float | None]) -> None:
        """Check an update's figures; an alarm is reported when its condition becomes true, not while it stays true."""
        self.history.append(figures)
        found = ringing(self.history, self._options.alarms)
        for alarm in found:
            if alarm.name not in self.rings:
                self._run.warn(f"alarm {alarm.name} at update {number + 1}: {alarm.text}")
                content = {"alarm": alarm.name, "text": alarm.text, "figures": alarm.figures}
                self.alarms.append({"step": number + 1, **content})
                self.files["alarms"].write(number + 1, content)
        self.rings = [alarm.name for alarm in found]

    def _extra(self) -> dict[str, Any]:
        return {**self._work.state(), "history": self.history, "rings": self.rings, "alarms": self.alarms}

    def _resume(self, states: SavedStates) -> int:
        """Load the newest state; returns the number of finished updates."""
        saved = states.restore(self._engines)
        start = saved.step if saved else 0
        kept = {name: file.forget_after(start) for name, file in self.files.items()}
        if saved:
            extra = saved.extra
            self.history, self.rings = extra["history"], extra["rings"]
            # a state of an older alignflow has its alarms only in their lines
            self.alarms = extra.get("alarms", kept["alarms"])
            for line in self.alarms:
                self._run.warn(f"alarm {line['alarm']} at update {line['step']}: {line['text']}")
            self._work.take_up(extra)
        return start

    def _stop(self, number: int, good: SavedStates, last: dict[str, float]) -> dict[str, float | None]:
        """End at an alarm, with the weights of the last update without an alarm."""
        saved = good.restore({"policy": self._engines["policy"]})
        assert saved is not None
        self._run.warn(
            f"stopped at update {number + 1} by {', '.join(self.rings)}; published: the weights after update {saved.step}"
        )
        return self._metrics(last, saved.step) | {"stopped_at": float(number + 1)}

    def _metrics(self, last: dict[str, float], updates: int) -> dict[str, float | None]:
        return {**last, "updates": float(updates), "episodes": last["episode"], "alarms": float(len(self.alarms))}


def sample_line(row: Mapping[str, Any], text: str, ended: bool, tokens: int, kl: float) -> dict[str, Any]:
    """The common fields of a line in the table of samples."""
    return {"prompt": row["prompt"], "completion": text, "ended": ended, "tokens": tokens, "kl": round(kl, 4)}


def shown_scores(scores: Mapping[str, torch.Tensor], index: int) -> dict[str, float | None]:
    """The scores of one answer for a line, None if there is none (NaN)."""
    return {name: None if values[index].isnan() else round(float(values[index]), 4) for name, values in scores.items()}


def sums_of_answers(columns: Mapping[str, Sequence[float] | torch.Tensor]) -> dict[str, tuple[float, float]]:
    """Name -> (sum, count) in this process of figures per answer, without NaN."""
    found = {}
    for name, values in columns.items():
        column = torch.as_tensor(values, dtype=torch.float64)
        known = column[~column.isnan()]
        found[name] = (float(known.sum()), float(len(known)))
    return found
