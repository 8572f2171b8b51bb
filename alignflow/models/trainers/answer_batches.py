"""Rows of answers as the batches that losses take: with the statistics of the policy and of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from alignflow.models.cringe_picks import uniform_numbers
from alignflow.models.losses.base import OfflineBatch
from alignflow.models.policy import Policy
from alignflow.models.sequences import chosen_tokens
from alignflow.models.token_statistics import STATISTICS, TokenStatistics
from alignflow.models.trainers.offline_rows import OfflineRows
from alignflow.models.trainers.reference_scores import Scores
from alignflow.models.trainers.with_prompts import apart, with_prompt
from alignflow.models.value_model import ValueModel

STEP = "step"
"""Figure of a whole step: its number."""


@dataclass(frozen=True)
class Answers:
    """One split of the data with the policy that is trained.

    Attributes:
        policy: The model that is trained.
        rows: The groups of answers.
        reference: The frozen reference's scores; None for methods without a reference.
        needs: Figures per token that the loss takes: names of `token_statistics.STATISTICS`.
        live: A reference or teacher that runs together with the policy, for statistics that compare distributions; the policy itself means
            the policy without its adapter.
        settings: Further arguments of `Policy.token_statistics`.
        seed: For statistics that draw.
        value: A network that estimates the value of each token's state, for `statistics["values"]`; it is trained together with the policy.
        constants: Scalars that are the same in every step, for `OfflineBatch.step`.
    """

    policy: Policy
    rows: OfflineRows
    reference: Scores | None
    needs: tuple[str, ...] = ("logps",)
    live: Policy | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    value: ValueModel | None = None
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def batch(self, rows: Sequence[int], step: Mapping[str, torch.Tensor] | None = None) -> OfflineBatch:
        """The answers of some rows with the figures per token that a loss needs, from one forward pass.

        Args:
            rows: Positions of the rows; row i has the group number i.
            step: Figures of the whole step; `STEP` is its number, `weight` that of each row.
        """
        data, (places, owners) = self.rows, self.rows.places(rows)
        figures = {**self.constants, **(step or {})}
        answers = [data.answers[int(place)] for place in places]
        if data.prompts:
            answers = [with_prompt(row) if own else row for row, own in zip(answers, data.wanted[places], strict=True)]
        found = self.policy.token_statistics(
            answers,
            self.needs,
            reference=self.live,
            uniform=self._uniform(places, figures.pop(STEP, None)),
            **self.settings,
        )
        prompts = None
        if data.prompts:
            found, prompts = apart(found, torch.from_numpy(self._before(places)))
        sums, weight = found.sums(), figures.pop("weight", None)
        device, at = sums.device, torch.from_numpy(places)

        def moved(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[at].to(device)

        statistics = dict(found.values)
        if self.reference is not None and self.reference.tokens is not None:
            statistics["reference_logps"] = self.reference_tokens(at).to(device)
        if self.value is not None:
            statistics["values"] = self.value.values_packed(answers)
        return OfflineBatch(
            group=owners.to(device),
            role=moved(data.role),
            logps=sums,
            tokens=found.counts().long(),
            ended=moved(data.ended),
            reference_logps=self._reference_sums(found, at),
            soft_label=moved(data.soft_label),
            statistics=statistics,
            label=moved(data.label),
            score=moved(data.score),
            step={name: value.to(device) for name, value in figures.items()},
            weight=None if weight is None else weight[owners].to(device),
            prompt_logps=prompts,
        )

    def _before(self, places: np.ndarray) -> np.ndarray:
        """(answers,) int64: the prompt's tokens that the NLL of the answers at `places` is over; 0 if it is over the answers alone."""
        prompt = self.rows.answer_lengths[places] - self.rows.answer_tokens[places] - 1
        return np.where(self.rows.wanted[places] & self.rows.prompts, prompt, 0)

    def _reference_sums(self, found: TokenStatistics, places: torch.Tensor) -> torch.Tensor | None:
        if self.live is not None and "reference_logps" in self.needs:
            return found.sums("reference_logps")
        return None if self.reference is None else self.reference.sums[places].to(self.policy.device)

    def _uniform(self, places: np.ndarray, step: torch.Tensor | None) -> torch.Tensor | None:
        """Uniform numbers for statistics that draw; an answer's depend only on seed, step and its position in the data."""
        if not any(STATISTICS[name].draws for name in self.needs):
            return None
        names = [str(int(place)) for place in places]
        return uniform_numbers(
            names, self.rows.answer_tokens[places].tolist(), self.seed, -1 if step is None else int(step)
        )

    def reference_tokens(self, places: torch.Tensor) -> torch.Tensor:
        """(N,) fp32: the reference's log-probability of each token of the answers at `places`, answer after answer."""
        assert self.reference is not None and self.reference.tokens is not None
        return self.reference.tokens[chosen_tokens(torch.from_numpy(self.rows.answer_tokens), places)]

    @property
    def tells_nll(self) -> bool:
        """Whether there is an answer that SFT would train on, and its log-probabilities are those of the model itself, and not at
        another temperature."""
        return float(self.settings.get("temperature", 1.0)) == 1.0 and self.rows.any_wanted

    def wanted(self, rows: Sequence[int]) -> torch.Tensor:
        """(answers,) int64: places in the batch of `rows` of the answers that SFT would train on."""
        places, _ = self.rows.places(rows)
        return torch.from_numpy(np.flatnonzero(self.rows.wanted[places])).to(self.policy.device)

    def wanted_owners(self, rows: Sequence[int]) -> torch.Tensor:
        """(answers,) int64: the position among all rows of the row of each answer of `wanted`."""
        places, owners = self.rows.places(rows)
        return torch.tensor(list(rows), dtype=torch.int64)[owners[self.rows.wanted[places]]]

    def nll_of_tokens(self, answers: OfflineBatch, rows: Sequence[int]) -> tuple[float, float]:
        """Sum and count of the NLL of the wanted answers' tokens, nats, and of their prompts' if the NLL includes these."""
        wanted, (places, _) = self.wanted(rows), self.rows.places(rows)
        logps = answers.logps if answers.prompt_logps is None else answers.logps + answers.prompt_logps
        count = float(answers.tokens[wanted].sum()) + float(self._before(places).sum())
        return -float(logps.detach()[wanted].sum()), count
