"""Options of methods that sample answers, have them compared, and step on the comparisons at once.

Names are those of TRL's OnlineDPOConfig, XPOConfig and NashMDConfig where they have them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import ModelPath, Name
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.pairwise import beta_field
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.configs.rollouts import ImportanceOptions, SamplerOptions
from alignflow.data.configs.watched import WatchedOptions


class LiveOptions(WatchedOptions, SamplerOptions):
    """Sampling within a training that takes one optimizer step per update; `align.batch_size` counts prompts per update."""

    total_episodes: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000_000,
        description="Prompts to answer in all; empty: num_train_epochs over the prompts. align.max_steps counts updates.",
    )


class ComparedOptions(LiveOptions):
    """Answers that are compared, by a judge or by scores."""

    beta: float = beta_field(0.1)
    judge: JudgeConfig | None = Field(
        default=None, description="Compares the answers, asked in both orders; empty: rewards do."
    )
    rewards: tuple[RewardSourceConfig, ...] = Field(
        default=(),
        description="Where scores come from, which are compared: P(first is better) = sigmoid of the difference of the weighted sums. "
        "Empty without a judge: the reward model.",
    )
    missing_eos_penalty: float | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Subtracted from the score of an answer that was cut, or from its log-odds by a judge, before the comparison; "
        "empty: off.",
    )

    @model_validator(mode="before")
    @classmethod
    def _the_reward_model_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("judge") is None and not values.get("rewards"):
            return {**values, "rewards": (RewardSourceConfig(),)}
        return values

    @model_validator(mode="after")
    def _one_of_both(self) -> ComparedOptions:
        if self.judge is not None and self.rewards:
            raise ValueError("judge and rewards both compare: leave one of them out")
        return self


class PairedOptions(ComparedOptions):
    """A better and a worse answer, and a pair loss by name."""

    pair_loss: Name = Field(
        default="dpo",
        description="A method of pairs of `alignflow methods` whose loss takes log-probabilities of both models: dpo, ipo, exo, ...",
    )
    pair_loss_options: dict[str, Any] = Field(
        default_factory=dict, description="Its options but beta, which is the method's own."
    )
    soft_labels: bool = Field(
        default=False,
        description="Aim at P(chosen is better) of the judge, or of the scores' sigmoid, in place of 1; needs pair_loss dpo.",
    )


class OnlineDPOOptions(PairedOptions):
    """Online DPO: several answers of the policy per prompt, the best against the worst."""

    num_generations: int = Field(
        default=2,
        ge=2,
        le=64,
        description="Answers per prompt. Over 2, the pair is that of the highest and the lowest mean win rate against the others.",
    )


class XPOOptions(PairedOptions):
    """Exploratory preference optimization: an answer of the policy against one of the reference, and a bonus for exploring."""

    alpha: float = Field(
        default=1e-5,
        ge=0,
        le=1000,
        description="Weight of the policy's log-probability of the reference's answer, which is minimised: optimism.",
    )


class NashOptions(ComparedOptions, ImportanceOptions):
    """A policy gradient on P(own answer beats the opponent's) - 1/2, with a KL penalty."""

    beta: float = Field(
        default=0.1, ge=0, le=1000, description="Weight of the KL to the reference, the tau of the paper; TRL's beta."
    )
    kl_credit: Literal["sequence", "token"] = Field(
        default="sequence",
        description="sequence: an answer's log-ratio weighs all of its tokens, as in the paper. token: each token its own, as in TRL, which "
        "leaves out what a token does to the KL of later ones.",
    )


class NashMDOptions(NashOptions):
    """Nash-MD: the opponent is the policy mixed with the reference."""

    mixture_coef: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Weight of the REFERENCE in the geometric mixture of each token's distribution, as in TRL; 0: the policy itself.",
    )


class NashEMAOptions(NashOptions):
    """Nash-EMA: the opponent is the moving average of the policy's weights."""

    ema_decay: float = Field(
        default=0.9, ge=0, lt=1, description="Of the moving average, per update; 0: the policy of the update before."
    )


class DistillationOptions(LiveOptions):
    """Distillation on answers that the student samples."""

    teacher: ModelPath = Field(
        description="Directory or Hub id of the teacher, which has the student's tokenizer; its weights stay as they are."
    )
    beta: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Weight of the teacher in the mixture that both are compared with; 0: KL(teacher || student), 1: KL(student || teacher).",
    )
    lmbda: float = Field(
        default=1.0,
        ge=1,
        le=1,
        description="Share of answers that the student samples; 1: all. For given answers take gkd.",
    )
