"""Figures that a loss needs from all rows of an optimizer step: computed before its micro-batches, the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alignflow.data.catalogue import Method
from alignflow.data.own_methods import step_function
from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.losses.base import OfflineBatch
from alignflow.models.trainers.answer_batches import STEP, Answers
from alignflow.models.trainers.fit import Sums
from alignflow.models.trainers.own_reference import mismatched_sums
from alignflow.models.trainers.passes import passes

Figures = dict[str, torch.Tensor]
State = Mapping[str, float]
MakeFigures = Callable[[OfflineBatch, Any, State, bool], tuple[Figures, State]]
"""See `models/losses/step_scalars.py`."""
Of = Callable[[Sequence[int]], Figures]
"""Rows of a micro-batch -> the step's scalars, and the figures of these rows."""


class StepFigures:
    """Makes `OfflineBatch.step` and `weight` for a method, and counts the steps.

    Args:
        method: Its row, with the address of the function for the figures; empty: the step's number is the only one.
        options: The method's options.
        sides: The answers of both splits of the data.
        seed: The training's seed.
        run: For the limit of a forward pass.
    """

    def __init__(self, method: Method, options: Any, sides: Mapping[str, Answers], seed: int, run: Run):
        self._make: MakeFigures = step_function(method) or _nothing
        self._reads = method.step_reads if method.whole_step else "labels"
        self._options, self._sides, self._run = options, sides, run
        self._state: State = {"seed": seed, "step": 0}
        self.of: Of = lambda rows: {}

    def before(self, rows: list[int]) -> Sums:
        """Compute the figures of a step; returns its scalars as metrics."""
        found, state = self._make(self._answers("train", rows, True), self._options, self._state, True)
        self.of = _placed({**found, STEP: torch.tensor(self._state["step"])}, rows)
        self._state = {**state, "step": self._state["step"] + 1}
        return {name: (float(value), 1.0) for name, value in found.items() if not value.ndim}

    def held_out(self) -> Of:
        """The figures of the held-out rows, as if they were one step; the state stays as it is. Log-probabilities of the answers
        themselves are not computed: what follows them follows those of training."""
        rows = list(range(len(self._sides["heldout"].rows)))
        found, _ = self._make(self._answers("heldout", rows, False), self._options, self._state, False)
        return _placed(found, rows)

    def state(self) -> dict[str, float]:
        """See `fit.WholeStep`."""
        return dict(self._state)

    def restore(self, state: Mapping[str, float]) -> None:
        """See `fit.WholeStep`."""
        self._state = {**self._state, **state}

    @torch.no_grad()
    def _answers(self, name: str, rows: list[int], training: bool) -> OfflineBatch:
        """The answers of a step, or those of other prompts beside them, with sums and without figures per token, in every process.
        Sums that nothing reads are NaN."""
        side = self._sides[name]
        data, (places, owners) = side.rows, side.rows.places(rows)
        at, scores, reference = torch.from_numpy(places), side.reference, None
        if self._reads == "mismatched":
            sums = mismatched_sums(side.policy, data, places.tolist(), self._run)
            reference = None if scores is None or scores.mismatched is None else scores.mismatched[at]
        elif self._reads == "logps":
            sums = self._own_sums(side, rows, places) if training else torch.full((len(places),), float("nan"))
            reference = None if scores is None else scores.sums[at]
        else:
            sums = torch.full((len(places),), float("nan"))

        def chosen(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[at]

        return OfflineBatch(
            owners,
            data.role[at],
            sums,
            torch.from_numpy(data.answer_tokens[places]),
            data.ended[at],
            reference,
            data.soft_label[at],
            label=chosen(data.label),
            score=chosen(data.score),
        )

    def _own_sums(self, side: Answers, rows: list[int], places: np.ndarray) -> torch.Tensor:
        """(answers,) fp32: the policy's sums of the answers of a step; no row is split over passes."""
        different, numbers = np.unique(
            places, return_inverse=True
        )  # a step across the end of an epoch may have a row twice
        own_rows = list(dict.fromkeys(rows))
        sums = torch.zeros(len(different))
        for own in passes([side.rows.lengths[row] for row in own_rows], self._run.runtime.micro_batch_tokens):
            taken, _ = side.rows.places([own_rows[number] for number in own.rows])
            found = side.policy.token_statistics([side.rows.answers[int(place)] for place in taken]).sums().cpu()
            if own.counts:
                sums[np.searchsorted(different, taken)] = found
        return group.sum_tensor(sums)[torch.from_numpy(numbers)]


def _nothing(answers: OfflineBatch, options: Any, state: State, training: bool) -> tuple[Figures, State]:
    return {}, state


def _placed(found: Mapping[str, torch.Tensor], rows: Sequence[int]) -> Of:
    """Scalars unchanged, and figures per row for the rows of a micro-batch.

    A row that a step across the end of an epoch has twice gets the mean of its figures, so that their sum is that of the step.
    """
    different, numbers = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
    places, times = torch.from_numpy(numbers), torch.from_numpy(np.bincount(numbers, minlength=len(different)))
    of_rows = {
        name: value.new_zeros(len(different)).index_add(0, places, value) / times.to(value.dtype)
        for name, value in found.items()
        if value.ndim
    }

    def of(own: Sequence[int]) -> Figures:
        at = torch.from_numpy(np.searchsorted(different, np.asarray(own, dtype=np.int64)))
        return {name: of_rows[name][at] if name in of_rows else value for name, value in found.items()}

    return of
