"""Options of the policy-gradient methods without a value model: the same fields as every method that samples, with defaults of their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import Name
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.rewards import RewardSourceConfig

ADVANTAGE = "A name of `alignflow advantages`."
LOSS = "A name of `alignflow policy-losses`."
GENERATIONS = "Answers per prompt and update: the group whose scores are compared."
PASSES = "Passes over the answers of an update."
KL = "Weight of the KL penalty to the reference; see kl_in."
WHERE = "Where the penalty stands: in the token rewards, or in the loss."
ESTIMATOR = "Estimator of the penalty per token (Schulman 2020); in the loss k2 has the KL's gradient."
AGGREGATE = "Mean over tokens, over answers of their token means, or the sum divided by answers times response_length."
WHITEN = "Mean 0 and variance 1 of the advantages over the update's tokens."
LOW = "Lower clip of the ratio: 1 less this."
HIGH = "Upper clip of the ratio: 1 and this; empty: as the lower one."


class GroupOptions(OnlineOptions):
    """What the methods share that compare the answers to one prompt with each other: one pass, no whitening."""

    num_generations: int = Field(default=8, ge=1, le=10_000, description=GENERATIONS)
    num_ppo_epochs: int = Field(default=1, ge=1, le=1000, description=PASSES)
    whiten_advantages: bool = Field(default=False, description=WHITEN)


class RLOOOptions(GroupOptions):
    """REINFORCE leave-one-out: the KL in the score, then the mean of the other answers as baseline."""

    advantage: Name = Field(default="rloo", description=ADVANTAGE)
    policy_loss: Name = Field(default="sequence_clip", description=LOSS)
    num_generations: int = Field(default=4, ge=1, le=10_000, description=GENERATIONS)
    aggregate: Literal["token", "sequence", "constant"] = Field(default="sequence", description=AGGREGATE)


class GRPOOptions(GroupOptions):
    """Group relative policy optimization: scores normalised within the group, the KL in the loss."""

    advantage: Name = Field(default="grpo", description=ADVANTAGE)
    kl_coef: float = Field(default=0.04, ge=0, le=1000, description=KL)
    kl_in: Literal["reward", "loss"] = Field(default="loss", description=WHERE)
    kl_estimator: Literal["k1", "k2", "k3"] = Field(default="k3", description=ESTIMATOR)
    aggregate: Literal["token", "sequence", "constant"] = Field(default="sequence", description=AGGREGATE)


class DrGRPOOptions(GRPOOptions):
    """GRPO without its two biases: no division by the deviation, and by a constant in place of the length."""

    advantage: Name = Field(default="dr_grpo", description=ADVANTAGE)
    kl_coef: float = Field(default=0.0, ge=0, le=1000, description=KL)
    aggregate: Literal["token", "sequence", "constant"] = Field(default="constant", description=AGGREGATE)


class DAPOOptions(GRPOOptions):
    """Decoupled clip and dynamic sampling."""

    kl_coef: float = Field(default=0.0, ge=0, le=1000, description=KL)
    cliprange_high: float | None = Field(default=0.28, gt=0, le=1000, description=HIGH)
    aggregate: Literal["token", "sequence", "constant"] = Field(default="token", description=AGGREGATE)
    dynamic_sampling: int = Field(
        default=3, ge=0, le=1000, description="Further rounds of sampling at most, until every prompt's scores differ."
    )
    overlong_buffer: float = Field(
        default=0.2, ge=0, le=1, description="Last share of response_length in which an answer's score falls; 0: off."
    )


class GSPOOptions(GRPOOptions):
    """Group sequence policy optimization: the ratio of whole answers, per token in the geometric mean."""

    policy_loss: Name = Field(default="gspo", description=LOSS)
    kl_coef: float = Field(default=0.0, ge=0, le=1000, description=KL)
    cliprange: float = Field(default=3e-4, gt=0, le=1000, description=LOW)
    cliprange_high: float | None = Field(default=4e-4, gt=0, le=1000, description=HIGH)


class CISPOOptions(GRPOOptions):
    """Clipped importance weights on log-probabilities: no token loses its gradient."""

    policy_loss: Name = Field(default="cispo", description=LOSS)
    kl_coef: float = Field(default=0.0, ge=0, le=1000, description=KL)
    cliprange: float = Field(default=1.0, gt=0, le=1000, description=f"{LOW} 1: none.")
    cliprange_high: float | None = Field(default=4.0, gt=0, le=1000, description=HIGH)
    aggregate: Literal["token", "sequence", "constant"] = Field(default="token", description=AGGREGATE)


class SAPOOptions(GRPOOptions):
    """Soft adaptive policy optimization: a smooth gate in place of the clip."""

    policy_loss: Name = Field(default="sapo", description=LOSS)
    kl_coef: float = Field(default=0.0, ge=0, le=1000, description=KL)


class ReinforcePPOptions(OnlineOptions):
    """REINFORCE++: PPO without a value model; returns normalised over the whole update."""

    advantage: Name = Field(default="reinforce_pp", description=ADVANTAGE)
    kl_coef: float = Field(default=0.01, ge=0, le=1000, description=KL)
    num_ppo_epochs: int = Field(default=1, ge=1, le=1000, description=PASSES)


class ReinforcePPBaselineOptions(ReinforcePPOptions):
    """REINFORCE++ with the group's mean as baseline; the KL in the loss."""

    advantage: Name = Field(default="reinforce_pp_baseline", description=ADVANTAGE)
    num_generations: int = Field(default=4, ge=1, le=10_000, description=GENERATIONS)
    kl_in: Literal["reward", "loss"] = Field(default="loss", description=WHERE)
    kl_estimator: Literal["k1", "k2", "k3"] = Field(default="k2", description=ESTIMATOR)


class SPOOptions(RLOOOptions):
    """Self-play preference optimization: the score of an answer is its win rate against the other answers to its prompt."""

    advantage: Name = Field(default="spo", description=ADVANTAGE)
    rewards: tuple[RewardSourceConfig, ...] = Field(
        default=(RewardSourceConfig(name="win_rate"),),
        min_length=1,
        description="Where win rates come from: a pairwise judge within the group, or a function that gives them.",
    )
    num_generations: int = Field(default=4, ge=1, le=10_000, description=GENERATIONS)
