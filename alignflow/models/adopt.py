"""Takes in a reward model that the user already has."""

from __future__ import annotations

from pathlib import Path

from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.records import user
from alignflow.data.run import Run
from alignflow.models.loading import refuse_not_finite
from alignflow.models.reward_model import load_reward_model, save_reward_model

PROBES = (("What is the weather like?", "It is sunny and warm."), ("Name a colour.", "Blue"), ("Say something.", ""))


def adopt_reward_model(config: AdoptConfig, *, run: Run) -> dict[str, float | None]:
    """Copy a reward model into the store, with rows that every later load must score alike.

    Metrics: its scores of three fixed answers. Raises ModelError where it does not load, its head would be fresh,
    or a weight is not finite.
    """
    reward = load_reward_model(Path(config.path), run.runtime)
    refuse_not_finite(reward.model, config.path)
    rows = [(user(question), answer, True) for question, answer in PROBES]
    save_reward_model(reward, run.out, rows, {"Reward model": "Taken in by alignflow as it was."})
    return {f"score/{index}": score for index, score in enumerate(reward.score(rows))}
