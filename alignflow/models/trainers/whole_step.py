"""Scalars that a loss needs from all rows of an optimizer step: computed before its micro-batches, the same in every process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alignflow.data.catalogue import Method
from alignflow.data.run import Run
from alignflow.models.engines import group
from alignflow.models.losses.base import OfflineBatch
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.fit import Sums
from alignflow.models.trainers.own_reference import mismatched_sums
from alignflow.models.trainers.passes import passes

State = dict[str, float]
MakeScalars = Callable[[OfflineBatch, Any, State], tuple[dict[str, torch.Tensor], State]]
"""The answers of a step, options, state -> scalars and (rows,) figures of the step, state for the next."""
Of = Callable[[Sequence[int]], dict[str, torch.Tensor]]
"""Rows of a micro-batch -> their scalars, and their share of the figures per row."""


class StepScalars:
    """Makes `OfflineBatch.step` for a method.

    Args:
        method: Its row, with the address of what makes the scalars.
        options: Its options.
        sides: The answers of both sides of the data.
        run: For the limit of a forward pass.
    """

    def __init__(self, method: Method, options: Any, sides: Mapping[str, Answers], run: Run):
        module, _, name = method.whole_step.partition(":")
        self._make: MakeScalars = getattr(importlib.import_module(module), name)
        self._method, self._options, self._sides, self._run = method, options, sides, run
        self._state: State = {}
        self.of: Of = lambda rows: {}

    def before(self, rows: list[int]) -> Sums:
        """Make the scalars of a step; returns them as metrics."""
        found, self._state = self._make(self._answers("train", rows), self._options, dict(self._state))
        self.of = _placed(found, rows)
        return {name: (float(value), 1.0) for name, value in found.items() if not value.ndim}

    def held_out(self) -> Of:
        """The scalars of the held-out rows, as if they were one step; the state stays as it is."""
        rows = list(range(len(self._sides["heldout"].rows)))
        found, _ = self._make(self._answers("heldout", rows), self._options, dict(self._state))
        return _placed(found, rows)

    def state(self) -> State:
        """See `fit.WholeStep`."""
        return self._state

    def restore(self, state: Mapping[str, float]) -> None:
        """See `fit.WholeStep`."""
        self._state = dict(state)

    @torch.no_grad()
    def _answers(self, name: str, rows: list[int]) -> OfflineBatch:
        """The answers of a step, or with `mismatched` those of other prompts, with sums and without figures per token, in every process."""
        side = self._sides[name]
        data, (places, owners) = side.rows, side.rows.places(rows)
        at = torch.from_numpy(places)
        if self._method.mismatched:
            sums = mismatched_sums(side.policy, data, places.tolist(), self._run)
            reference = None if side.reference is None or side.reference.mismatched is None else side.reference.mismatched[at]
        else:
            sums = self._own_sums(side, rows, places)
            reference = None if side.reference is None else side.reference.sums[at]

        def chosen(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[at]

        return OfflineBatch(
            owners, data.role[at], sums, torch.from_numpy(data.answer_tokens[places]), data.ended[at], reference, data.soft_label[at],
            label=chosen(data.label), score=chosen(data.score),
        )  # fmt: skip

    def _own_sums(self, side: Answers, rows: list[int], places: np.ndarray) -> torch.Tensor:
        """(answers,) fp32: the policy's sums of the answers of a step, whose rows stand whole in one pass."""
        different, numbers = np.unique(places, return_inverse=True)  # a step across the end of an epoch may have a row twice
        own_rows = list(dict.fromkeys(rows))
        sums = torch.zeros(len(different))
        for own in passes([side.rows.lengths[row] for row in own_rows], self._run.runtime.micro_batch_tokens):
            taken, _ = side.rows.places([own_rows[number] for number in own.rows])
            found = side.policy.token_statistics([side.rows.answers[int(place)] for place in taken]).sums().cpu()
            if own.counts:
                sums[np.searchsorted(different, taken)] = found
        return group.sum_tensor(sums)[torch.from_numpy(numbers)]


def _placed(found: Mapping[str, torch.Tensor], rows: Sequence[int]) -> Of:
    """Scalars as they are, and figures per row by the rows of a micro-batch."""
    numbers = {row: number for number, row in enumerate(rows)}

    def of(own: Sequence[int]) -> dict[str, torch.Tensor]:
        places = [numbers[row] for row in own]
        return {name: value if not value.ndim else value[places] for name, value in found.items()}

    return of
