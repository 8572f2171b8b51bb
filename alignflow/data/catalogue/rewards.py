"""Sources of scores in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import rewards, verifiers


@dataclass(frozen=True)
class Reward(PartWithOptions):
    """One source of scores in training.

    Attributes:
        needs: Input of `align` that it reads where its options name no `model`: reward_model, or nothing.
    """

    needs: str = ""


REWARDS: Mapping[str, Reward] = {
    "reward_model": Reward(
        "alignflow.models.rewards.sources:RewardModelSource",
        "A reward model, from the text: the recipe's, or one by its path.",
        options=rewards.RewardModelRewardOptions,
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
    "verifier": Reward(
        "alignflow.models.rewards.verified:VerifierSource",
        "A check of the catalogue's verifiers, the same for all rows.",
        options=verifiers.VerifierRewardOptions,
    ),
    "per_row": Reward(
        "alignflow.models.rewards.verified:PerRowSource",
        "The verifier that each row names.",
        options=verifiers.PerRowRewardOptions,
    ),
    "win_rate": Reward(
        "alignflow.models.rewards.win_rates:WinRateSource",
        "Wins by a judge against the other answers to the same prompt (SPO), or against the reference answer.",
        options=rewards.WinRateRewardOptions,
        version="2",
    ),
}
