"""What samples answers while a policy trains, and when."""

from __future__ import annotations

from pydantic import Field

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.generators import GeneratorConfig


class RolloutOptions(StageConfig):
    """Options that every method has that samples while it trains."""

    generator: GeneratorConfig | None = Field(
        default=None,
        description="What samples; empty: engine.generator. transformers: the model itself; vllm: an engine that takes up its weights after each update.",
    )
    rollout_ahead: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1: answers of the next update are sampled while this one trains, by the weights before it (one step off policy).",
    )
