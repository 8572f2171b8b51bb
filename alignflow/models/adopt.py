"""Imports a reward model that the user already has."""

from __future__ import annotations

from pathlib import Path

from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.records import user
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble, write_ensemble
from alignflow.data.run import Run
from alignflow.models.loading import refuse_not_finite
from alignflow.models.reward_ensemble import load_scorer
from alignflow.models.reward_model import ScoredRow, load_reward_model, save_reward_model

CARD = {"Reward model": "Taken in by alignflow as it was."}
PROBES = (("What is the weather like?", "It is sunny and warm."), ("Name a colour.", "Blue"), ("Say something.", ""))


def adopt_reward_model(config: AdoptConfig, *, run: Run) -> dict[str, float | None]:
    """Copy a reward model, or an ensemble with its members, into the store, with rows that must get the same scores on every later load.

    Metrics: its scores of three fixed answers. Raises ModelError if it does not load, its head would be fresh,
    or a weight is not finite.
    """
    path = Path(config.path)
    rows: list[ScoredRow] = [(user(question), answer, True) for question, answer in PROBES]
    if is_ensemble(path):
        return _adopt_ensemble(path, rows, run)
    reward = load_reward_model(path, run.runtime)
    refuse_not_finite(reward.model, config.path)
    save_reward_model(reward, run.out, rows, CARD)
    return {f"score/{index}": score for index, score in enumerate(reward.score(rows))}


def _adopt_ensemble(path: Path, rows: list[ScoredRow], run: Run) -> dict[str, float | None]:
    """Copy an ensemble with its members into one directory."""
    found = read_ensemble(path)
    places = [run.out / f"member.{number}" for number in range(1, len(found.members) + 1)]
    for member, place in zip(found.members, places, strict=True):
        reward = load_reward_model(member, run.runtime)
        refuse_not_finite(reward.model, str(member))
        place.mkdir()
        save_reward_model(reward, place, rows, CARD)
    write_ensemble(run.out, places, found.aggregate, found.uncertainty_weight)
    scores = load_scorer(run.out, run.runtime).score(rows)
    return {"members": float(len(places)), **{f"score/{index}": score for index, score in enumerate(scores)}}
