"""The compared answers of the update in progress on disk: after sampling and after the comparison, so that a kill loses neither."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.rollouts import Rollouts
from alignflow.models.trainers.compared_answers import ComparedAnswers
from alignflow.models.trainers.saved_state import SavedStates

SAMPLED, COMPARED = 0, 1


class PreferenceBuffer:
    """Each process has its own answers; answers from a run with another number of processes are not used."""

    def __init__(self, run: Run):
        self._states = SavedStates(run.work / "rollouts", note=run.note)
        self._found = self._states.restore({})

    def sampled(self, update: int) -> tuple[Rollouts, int] | None:
        """All answers of an update, and how many are the policy's own; None if no state has them."""
        tensors = self._tensors(update, SAMPLED)
        return None if tensors is None else (Rollouts.from_tensors(tensors), int(tensors["own"]))

    def compared(self, update: int) -> ComparedAnswers | None:
        """The compared answers of an update; None if no state has them."""
        tensors = self._tensors(update, COMPARED)
        if tensors is None or self._found is None:
            return None
        return ComparedAnswers.from_tensors(tensors, self._found.extra["scores"])

    def keep_sampled(self, update: int, rollouts: Rollouts, own: int) -> None:
        """Commit sampled answers."""
        self._save(update, SAMPLED, {**rollouts.tensors(), "own": torch.tensor(own)}, [])

    def keep_compared(self, update: int, answers: ComparedAnswers) -> None:
        """Commit compared answers."""
        self._save(update, COMPARED, answers.tensors(), list(answers.scores))

    def _tensors(self, update: int, phase: int) -> dict[str, torch.Tensor] | None:
        extra = self._found.extra if self._found else {}
        if (
            extra.get("update", -1) > update
        ):  # from a killed run that was ahead of the state: its weights may differ by rounding
            self._states.forget(lambda step: step > 2 * update + 1)
            self._found, extra = None, {}
        fits = extra.get("update") == update and extra.get("processes") == group.size()
        return self._found.tensors if self._found and fits and extra.get("phase", -1) >= phase else None

    def _save(self, update: int, phase: int, tensors: Mapping[str, torch.Tensor], scores: list[str]) -> None:
        self._found = None  # the files of a killed run are used once
        extra = {"update": update, "phase": phase, "processes": group.size(), "scores": scores}
        self._states.save(2 * update + phase, {}, extra, tensors)
