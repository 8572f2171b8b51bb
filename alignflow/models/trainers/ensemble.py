"""The stage body `reward_ensemble`: combines reward models into an ensemble, and measures it on held-out rows, with the disagreement of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from alignflow.data.configs.training import RewardConfig, RewardEnsembleConfig
from alignflow.data.reward_ensembles import DISAGREEMENT, write_ensemble
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.reward_ensemble import RewardEnsemble
from alignflow.models.reward_model import load_reward_model
from alignflow.models.rewards.ensemble_scores import disagreement
from alignflow.models.trainers.reward import evaluate_reward
from alignflow.models.trainers.reward_rows import read_reward_rows

FREE_CONSTANT = ("bradley_terry", "ranking")
"""Losses of score differences: they do not fix a constant in the scores; only the regularizers do."""
MOSTLY = 0.5


def make_ensemble(
    config: RewardEnsembleConfig,
    *,
    members: Mapping[str, Path],
    preferences: Path | None = None,
    unpaired: Path | None = None,
    rankings: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Write ensemble.json, which names the members; their weights are not copied. All members are loaded, to find one that
    does not load.

    Metrics: `members`, and where the members were trained here and there are held-out rows those of `evaluate_reward` for the
    ensemble's score, and of the held-out answers

    - `disagreement`: the mean over answers of the standard deviation over members;
    - `disagreement/members`: the standard deviation over members of a member's mean score, which is a constant that the loss of pairs
      leaves free, and no disagreement about an answer.

    Args:
        config: How to combine the scores.
        members: Step -> its reward model, in the order of the members.
        preferences: Directory of pairs.
        unpaired: Directory of answers with labels.
        rankings: Directory of lists of answers with scores.
        run: Where to write.

    Raises:
        ModelError: a member does not load.
    """
    places = list(members.values())
    write_ensemble(run.out, places, config.aggregate, config.uncertainty_weight)
    models = [load_reward_model(place, run.runtime, compute_only=True) for place in places]
    ensemble = RewardEnsemble(models, config.aggregate, config.uncertainty_weight)
    metrics: dict[str, float | None] = {"members": float(len(places))}
    given = {"preferences": preferences, "unpaired": unpaired, "rankings": rankings}
    table = next(((kind, path) for kind, path in given.items() if path is not None), None)
    return metrics if table is None or config.reward is None else metrics | _held_out(ensemble, config, table, run)


def _held_out(
    ensemble: RewardEnsemble, config: RewardEnsembleConfig, table: tuple[str, Path], run: Run
) -> dict[str, float | None]:
    reward: RewardConfig = config.reward  # type: ignore[assignment]
    kind, directory = table
    rows = read_reward_rows(reward, kind, directory / "heldout.parquet", ensemble, run)
    watched = Watched(ensemble)
    found = evaluate_reward(watched, rows, run)
    if not watched.seen:
        return {**found, DISAGREEMENT: None, f"{DISAGREEMENT}/members": None}
    scores = torch.cat(watched.seen, 1).double().cpu()
    spread, offsets = disagreement(scores), float(scores.mean(1).std(correction=0))
    if (
        config.aggregate != "mean"
        and reward.loss in FREE_CONSTANT
        and offsets**2 > MOSTLY * float(spread.square().mean())
    ):
        run.warn(
            f"the members' mean scores differ by a standard deviation of {offsets:.3g}, which is most of their disagreement of "
            f"{float(spread.mean()):.3g}: a constant that the loss does not fix decides the scores of aggregate {config.aggregate}; "
            "set reward.center_rewards_coefficient"
        )
    return {**found, DISAGREEMENT: float(spread.mean()), f"{DISAGREEMENT}/members": offsets}


@dataclass
class Watched:
    """An ensemble that records its members' scores.

    Attributes:
        ensemble: The ensemble.
        seen: (members, rows) of each forward pass.
    """

    ensemble: RewardEnsemble
    seen: list[torch.Tensor] = field(default_factory=list)

    def scores_packed(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        """(rows,) fp32 scores of the ensemble."""
        self.seen.append(self.ensemble.members_packed(rows))
        return self.ensemble.combined(self.seen[-1]).float()
