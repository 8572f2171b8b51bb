"""Several reward models that score as one, and the one way to load a recipe's reward model or ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from alignflow.data.configs.training import Aggregate
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.reward_model import RewardModel, ScoredRow, load_reward_model
from alignflow.models.rewards.ensemble_scores import aggregate_scores, disagreement


class RewardEnsemble:
    """Reward models that are in memory together and score one after the other, so that memory holds the activations of one forward pass.

    Each member reads an answer's text with its own tokenizer. The scores of the last rows are kept, so the disagreement about
    rows that were just scored needs no forward pass.
    """

    def __init__(self, members: Sequence[RewardModel], aggregate: Aggregate, uncertainty_weight: float):
        self.members, self._aggregate, self._weight = list(members), aggregate, uncertainty_weight
        self.tokenizer, self.context_length = members[0].tokenizer, members[0].context_length
        self._last: tuple[list[ScoredRow], torch.Tensor] | None = None

    def score(self, rows: Sequence[ScoredRow]) -> list[float]:
        """One score per row; NaN if a member's is not finite."""
        return self.combined(self.member_scores(rows)).tolist()

    def disagreement(self, rows: Sequence[ScoredRow]) -> list[float]:
        """For each row the standard deviation of the members' scores; NaN if one is not finite."""
        return disagreement(self.member_scores(rows)).tolist()

    def member_scores(self, rows: Sequence[ScoredRow]) -> torch.Tensor:
        """(members, rows) fp64 on the CPU."""
        if self._last is None or self._last[0] != list(rows):
            scores = torch.tensor([member.score(rows) for member in self.members], dtype=torch.float64)
            self._last = list(rows), scores.reshape(len(self.members), len(rows))
        return self._last[1]

    def members_packed(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        """(members, rows) fp32 scores of rows that the tokenizers of all members encode alike."""
        return torch.stack([member.scores_packed(rows) for member in self.members])

    def combined(self, scores: torch.Tensor) -> torch.Tensor:
        """(rows,) fp64 from (members, rows)."""
        return aggregate_scores(scores, self._aggregate, self._weight)


def load_scorer(path: Path, runtime: Runtime) -> RewardModel | RewardEnsemble:
    """Load a reward model, or all members of an ensemble; raises ModelError and DamagedArtifactError as `load_reward_model` does."""
    if not is_ensemble(path):
        return load_reward_model(path, runtime, compute_only=True)
    found = read_ensemble(path)
    members = [load_reward_model(member, runtime, compute_only=True) for member in found.members]
    return RewardEnsemble(members, found.aggregate, found.uncertainty_weight)


def disagreement_of(scorer: RewardModel | RewardEnsemble, rows: Sequence[ScoredRow]) -> list[float] | None:
    """For each row the disagreement of an ensemble's members; None for a single model."""
    return scorer.disagreement(rows) if isinstance(scorer, RewardEnsemble) else None


def one_model(path: Path) -> Path:
    """The reward model at a path; for an ensemble, its first member."""
    return read_ensemble(path).members[0] if is_ensemble(path) else path
