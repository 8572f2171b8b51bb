"""The reward-model judge: scores of a trained head, compared as Bradley and Terry do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alignflow.data.configs.options import RewardModelJudgeOptions
from alignflow.models.generation.journal import model_identity
from alignflow.models.judges.base import Candidate, JudgeInputs, PointwiseJudge, needed_model, sigmoid
from alignflow.models.reward_model import RewardModel, load_reward_model


class RewardModelJudge(PointwiseJudge):
    """P(first) = sigmoid(r_1 - r_2); a score that is not finite gives no label."""

    def __init__(self, options: RewardModelJudgeOptions, inputs: JudgeInputs):
        path = needed_model(options.model, inputs.reward_model, "reward_model", "a reward model")
        self.fingerprint = model_identity(path)
        self._model: RewardModel | None = load_reward_model(path, inputs.run.runtime)

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Rewards; the model re-tokenises from text with its own tokenizer."""
        assert self._model is not None, "the judge is closed"
        scores = self._model.score(
            [(list(candidate.prompt), candidate.text, candidate.ended) for candidate in candidates]
        )
        return [float(score) if math.isfinite(score) else None for score in scores]

    def probability(self, first: float, second: float) -> float:
        """P(first is better) by Bradley-Terry."""
        return sigmoid(first - second)

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
