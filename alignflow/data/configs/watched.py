"""Options of every method that samples answers while it trains: how long they are, and how the training is watched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig, Temperature, runtime_field
from alignflow.data.configs.generation import JudgeConfig


class AlarmOptions(StageConfig):
    """When a training that samples says that something goes wrong."""

    kl_limit: float = Field(
        default=50.0, gt=0, le=1_000_000, description="KL to the reference per answer, nats, above which `kl` rings."
    )
    window: int = Field(
        default=8, ge=1, le=1_000_000, description="Updates that are averaged before two times are compared."
    )
    standard_errors: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="Reward up and held-out judge down by this many standard errors since its best window: `reward_hacking`.",
    )
    length_factor: float = Field(
        default=2.0,
        gt=1,
        le=1000,
        description="Mean length over, or under one by, this factor of the first window: `length`.",
    )
    repetition_rise: float = Field(
        default=0.15, gt=0, le=1, description="Rise of the share of repeated word 3-grams: `repetition`."
    )
    entropy_share: float = Field(
        default=0.2, gt=0, lt=1, description="Entropy per token under this share of the first window's: `entropy`."
    )
    zero_std_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of prompts whose answers all have one score, over the last window: `zero_variance` at this and above.",
    )


class WatchedOptions(StageConfig):
    """Answers of the policy in training, the judge that watches them, alarms, and tables of samples."""

    response_length: int = Field(
        default=64, ge=1, le=1_000_000, description="Longest answer, tokens; one cut here has no EOS."
    )
    temperature: Temperature = Field(default=1.0, gt=0, le=5, description="Of sampling, and of every log-probability.")
    heldout_judge: JudgeConfig | None = Field(
        default=None, description="A pointwise judge that teaches nothing: it only watches."
    )
    on_alarm: Literal["warn", "stop"] = Field(
        default="warn", description="stop: end with the last checkpoint before the alarm."
    )
    alarms: AlarmOptions = Field(default_factory=AlarmOptions, description="Limits of the alarms.")
    rollout_batch_size: int = runtime_field(
        default=64, gt=0, le=1_000_000, description="Answers that are sampled together."
    )
    samples_steps: int = runtime_field(
        default=10, gt=0, le=1_000_000_000, description="Updates between tables of samples."
    )
    samples: int = runtime_field(default=4, ge=0, le=10_000, description="Answers in a table of samples.")
