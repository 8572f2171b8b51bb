"""Options of methods that sample answers while they train: rollouts, rewards, the update, the value model, alarms.

Names are those of TRL's PPOConfig where it has them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import Name
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.configs.rollouts import ImportanceOptions, RolloutOptions
from alignflow.data.configs.watched import WatchedOptions


class OnlineOptions(WatchedOptions, RolloutOptions, ImportanceOptions):
    """What every method has that samples answers while it trains; `align.batch_size` counts answers per update."""

    advantage: Name = Field(default="gae", description="A name of `alignflow advantages`.")
    policy_loss: Name = Field(default="clip", description="A name of `alignflow policy-losses`.")
    rewards: tuple[RewardSourceConfig, ...] = Field(
        default=(RewardSourceConfig(),),
        min_length=1,
        description="Where scores come from; their weighted sum is the score.",
    )
    normalize_rewards: Literal["off", "group"] = Field(
        default="off",
        description="group: each source is normalised by itself, within the answers to one prompt, before it is weighted and summed (GDPO).",
    )
    total_episodes: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000_000,
        description="Answers to sample in all; empty: num_train_epochs over the prompts. align.max_steps counts updates.",
    )
    num_generations: int = Field(default=1, ge=1, le=10_000, description="Answers per prompt and update.")
    num_ppo_epochs: int = Field(default=4, ge=1, le=1000, description="Passes over the answers of an update.")
    num_mini_batches: int = Field(default=1, ge=1, le=1_000_000, description="Optimizer steps per pass.")
    missing_eos_penalty: float | None = Field(
        default=None, ge=0, le=1_000_000, description="Subtracted from the score of an answer that was cut."
    )
    normalize_scores: Literal["off", "mean", "mean_std"] = Field(
        default="off",
        description="Subtract the mean of the first update's scores (the reference's answers); mean_std: divide by their deviation too.",
    )
    overlong_buffer: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Last share of response_length in which an answer's score falls, linearly in its tokens (DAPO's soft punishment); 0: off.",
    )
    overlong_penalty: float = Field(
        default=1.0, ge=0, le=1_000_000, description="overlong_buffer: what an answer of response_length tokens loses."
    )
    mask_truncated_completions: bool = Field(
        default=False, description="Answers that were cut give no loss; their scores stay in their group's baseline."
    )
    score_clip: float | None = Field(
        default=None, gt=0, le=1_000_000, description="Clip of the score to +- this, before the KL penalty is added."
    )
    kl_coef: float = Field(
        default=0.05,
        ge=0,
        le=1000,
        description="Weight of the KL penalty to the reference (TRL's kl_coef, and beta of its GRPO); see kl_in.",
    )
    kl_in: Literal["reward", "loss"] = Field(
        default="reward",
        description="Where the penalty stands: in the token rewards, before any baseline, or in the loss, with a gradient of its own.",
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1",
        description="Estimator of the penalty per token (Schulman 2020). In the loss the gradient of k1 has mean 0, that of k2 is the KL's, "
        "that of k3 the reverse KL's.",
    )
    adaptive_kl: bool = Field(default=False, description="Steer kl_coef to kl_target (Ziegler et al. 2019).")
    kl_target: float = Field(
        default=6.0, gt=0, le=1_000_000, description="KL per answer, nats, that adaptive_kl steers to."
    )
    kl_horizon: int = Field(
        default=10000, gt=0, le=1_000_000_000_000, description="Answers over which adaptive_kl acts."
    )
    whiten_rewards: bool = Field(
        default=False, description="Divide token rewards by their deviation over the update; the mean stays."
    )
    whiten_advantages: bool = Field(
        default=True,
        description="Mean 0 and variance 1 of the advantages over the tokens of the update, of all processes.",
    )
    gamma: float = Field(default=1.0, gt=0, le=1, description="Discount per token.")
    cliprange: float = Field(default=0.2, gt=0, le=1000, description="Clip of the probability ratio to 1 +- this.")
    cliprange_high: float | None = Field(
        default=None, gt=0, le=1000, description="Another upper clip; empty: cliprange."
    )
    dual_clip: float | None = Field(
        default=None, gt=1, le=1000, description="Bound of the loss at this times a negative advantage; empty: off."
    )
    sapo_temperature_pos: float = Field(
        default=1.0, gt=0, le=1000, description="sapo: steepness of the gate where the advantage is positive."
    )
    sapo_temperature_neg: float = Field(
        default=1.05,
        gt=0,
        le=1000,
        description="sapo: steepness of the gate where it is not; larger: steps fade sooner.",
    )
    aggregate: Literal["token", "sequence", "constant"] = Field(
        default="token",
        description="Mean over the tokens of a mini-batch; over answers of their token means; or the sum over tokens, divided by answers "
        "times response_length (Dr. GRPO).",
    )
    dynamic_sampling: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Further rounds of sampling at most, each of other prompts, until no prompt of the update has answers of one score "
        "alone (DAPO); 0: such prompts stay and teach nothing.",
    )
    target_kl: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="An update's policy steps end when its approximate KL to the sampler exceeds this.",
    )
    entropy_coefficient: float = Field(default=0.0, ge=0, le=1000, description="Weight of the entropy bonus.")
    ptx_coefficient: float = Field(
        default=0.0, ge=0, le=1000, description="Weight of the NLL per token of demonstrations (InstructGPT's PPO-ptx)."
    )
    ptx_batch_size: int | None = Field(
        default=None, gt=0, le=1_000_000, description="Demonstrations per optimizer step; empty: as many as answers."
    )


class PPOOptions(OnlineOptions):
    """Proximal Policy Optimization with a value model."""

    lam: float = Field(default=0.95, ge=0, le=1, description="Lambda of generalized advantage estimation.")
    vf_coef: float = Field(default=0.1, gt=0, le=1000, description="Weight of the value loss.")
    cliprange_value: float = Field(
        default=0.2, gt=0, le=1_000_000, description="Clip of a value to its old one +- this."
    )
    value_learning_rate: float | None = Field(
        default=None, gt=0, le=10, description="Peak rate of the value model; empty: align.learning_rate."
    )
    value_warmup_steps: int = Field(
        default=0, ge=0, le=1_000_000_000, description="First updates in which the value model alone learns."
    )
    init_value_from: Literal["auto", "reward_model", "policy"] = Field(
        default="auto",
        description="auto: the reward model where one gives rewards and has the policy's tokenizer, else the policy.",
    )
