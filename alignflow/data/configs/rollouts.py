"""What samples answers while a policy trains, when, and how what its engine gets wrong is corrected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.generators import GeneratorConfig


class SamplerOptions(StageConfig):
    """The engine of every method that samples while it trains."""

    generator: GeneratorConfig | None = Field(
        default=None,
        description="What samples; empty: engine.generator. transformers: the model itself; vllm: an engine that takes up its weights after each update.",
    )


class RolloutOptions(SamplerOptions):
    """The engine of a method that may also sample ahead."""

    rollout_ahead: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1: answers of the next update are sampled while this one trains, by the weights before it (one step off policy).",
    )


class ImportanceOptions(StageConfig):
    """What a policy gradient does about an engine whose probabilities are not the trainer's."""

    importance_sampling_correction: bool = Field(
        default=True,
        description="Weigh the policy loss by trainer's over engine's probability of what was sampled, where the engine gives its own.",
    )
    importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        default="token_truncate",
        description="Ratio of each token or of the whole answer; one outside of the bounds is held at the bound, or gives no loss.",
    )
    importance_sampling_clip_max: float = Field(
        default=3.0, gt=0, le=1_000_000, description="Largest ratio of the correction."
    )
    importance_sampling_clip_min: float | None = Field(
        default=None, ge=0, le=1_000_000, description="Smallest ratio of the correction; empty: none."
    )
