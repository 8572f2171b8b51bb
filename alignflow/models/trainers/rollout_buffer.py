"""The answers of the update in progress on disk: after sampling and after scoring, so that a kill loses neither."""

from __future__ import annotations

from typing import Any

import torch

from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.rollouts import Rollouts
from alignflow.models.trainers.experience import Scored
from alignflow.models.trainers.saved_state import SavedStates

SAMPLED, SCORED = 0, 1


class RolloutBuffer:
    """Each process has its own answers; answers from a run with another number of processes are not used."""

    def __init__(self, run: Run):
        self._states = SavedStates(run.work / "rollouts", note=run.note)
        self._found = self._states.restore({})

    def rollouts(self, update: int) -> Rollouts | None:
        """The sampled answers of an update; None if a state has none."""
        tensors = self._tensors(update, SAMPLED)
        return None if tensors is None else Rollouts.from_tensors(tensors)

    def scored(self, update: int) -> Scored | None:
        """The scored answers of an update; None if a state has none."""
        tensors = self._tensors(update, SCORED)
        return None if tensors is None else Scored.from_tensors(tensors, self._extra["parts"])

    def keep_rollouts(self, update: int, rollouts: Rollouts) -> None:
        """Commit sampled answers."""
        self._save(update, SAMPLED, rollouts.tensors(), [])

    def keep_scored(self, update: int, scored: Scored) -> None:
        """Commit scored answers."""
        self._save(update, SCORED, scored.tensors(), list(scored.parts))

    @property
    def _extra(self) -> dict[str, Any]:
        return self._found.extra if self._found else {}

    def _tensors(self, update: int, phase: int) -> dict[str, torch.Tensor] | None:
        extra = self._extra
        if (
            extra.get("update", -1) > update
        ):  # from a killed run that was ahead of the state: its weights may differ by rounding
            self._states.forget(lambda step: step > 2 * update + 1)
            self._found, extra = None, {}
        fits = (
            extra.get("update") == update and extra.get("processes") == group.size() and extra.get("phase", -1) >= phase
        )
        return self._found.tensors if fits and self._found else None

    def _save(self, update: int, phase: int, tensors: dict[str, torch.Tensor], parts: list[str]) -> None:
        self._found = None  # the files of a killed run are used once
        extra = {"update": update, "phase": phase, "processes": group.size(), "parts": parts}
        self._states.save(2 * update + phase, {}, extra, tensors)


class RolloutsAhead:
    """The answers of a next update, drawn before the training of the present one: kept until the training cannot go back before that update."""

    def __init__(self, run: Run):
        self._states = SavedStates(run.work / "rollouts-ahead", note=run.note, kept=None)
        self._trained = SavedStates(run.work)
        self._held: dict[int, tuple[int, Rollouts]] = {}  # update -> place in the stream of prompts, answers
        for update in group.gather(self._states.steps())[0]:
            found = self._states.restore({}, lambda extra: extra["processes"] == group.size(), update)
            if found is not None and found.tensors:
                self._held[update] = found.extra["place"], Rollouts.from_tensors(found.tensors)

    def rollouts(self, update: int, place: int) -> Rollouts | None:
        """The answers of an update to the prompts of a place in the stream; None if there are none."""
        known, rollouts = self._held.get(update, (None, None))
        return rollouts if known == place else None

    def keep(self, update: int, place: int, rollouts: Rollouts) -> None:
        """Commit answers, and remove those of updates that are finished in the oldest state of the training."""
        extra = {"update": update, "place": place, "processes": group.size()}
        self._states.save(update, {}, extra, rollouts.tensors())
        oldest = group.gather(min(self._trained.steps(), default=0))[0]
        self._states.forget(lambda step: step < oldest)
        self._held = {known: held for known, held in self._held.items() if known >= oldest}
        self._held[update] = place, rollouts
