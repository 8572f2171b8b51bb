"""The reward-model judge: scores of a trained head, or of an ensemble of them, compared as Bradley and Terry do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from alignflow.data.configs.options import RewardModelJudgeOptions
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.models.generation.journal import model_identity
from alignflow.models.judges.base import Candidate, JudgeInputs, PointwiseJudge, needed_model, sigmoid
from alignflow.models.reward_ensemble import RewardEnsemble, disagreement_of, load_scorer
from alignflow.models.reward_model import ScoredRow


class RewardModelJudge(PointwiseJudge):
    """P(first) = sigmoid(r_1 - r_2); a score that is not finite gives no label."""

    def __init__(self, options: RewardModelJudgeOptions, inputs: JudgeInputs):
        path = needed_model(options.model, inputs.reward_model, "reward_model", "a reward model")
        self.fingerprint = model_identity(path)
        self._model: Any = load_scorer(path, inputs.run.runtime)
        self.is_ensemble = isinstance(self._model, RewardEnsemble)

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Rewards; the model tokenizes the text with its own tokenizer."""
        scores = self._model.score(_rows(candidates))
        return [float(score) if math.isfinite(score) else None for score in scores]

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """For an ensemble, the standard deviation over its members, if all have a score; a single model has no parts."""
        found = disagreement_of(self._model, _rows(candidates))
        if found is None:
            return super().details(candidates)
        return [{DISAGREEMENT: value} if math.isfinite(value) else {} for value in found]

    def probability(self, first: float, second: float) -> float:
        """P(first is better) by Bradley-Terry."""
        return sigmoid(first - second)

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None


def _rows(candidates: Sequence[Candidate]) -> list[ScoredRow]:
    return [(list(candidate.prompt), candidate.text, candidate.ended) for candidate in candidates]
