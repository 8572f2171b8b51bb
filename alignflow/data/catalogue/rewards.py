"""Sources of scores in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import rewards


@dataclass(frozen=True)
class Reward(PartWithOptions):
    """One source of scores in training.

    Attributes:
        needs: Input of `align` that it reads: reward_model, or nothing.
    """

    needs: str = ""


REWARDS: Mapping[str, Reward] = {
    "reward_model": Reward(
        "alignflow.models.rewards.sources:RewardModelSource",
        "The recipe's reward model, from the text.",
        needs="reward_model",
    ),
    "judge": Reward(
        "alignflow.models.rewards.sources:JudgeSource",
        "A pointwise judge of the catalogue.",
        options=rewards.JudgeRewardOptions,
    ),
    "function": Reward(
        "alignflow.models.rewards.sources:FunctionSource",
        "A verifiable Python function of the user.",
        options=rewards.FunctionRewardOptions,
    ),
}
