"""Options of the methods that learn from pairs. Names are those of TRL's DPOConfig, CPOConfig and ORPOConfig where they have them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from alignflow.data.configs.base import StageConfig


def beta_field(default: float) -> Any:
    """The strength of the pull to the reference: what turns a log-ratio, in nats, into an implicit reward."""
    return Field(default=default, gt=0, le=1000, description="Strength of the pull to the reference: reward = beta * log-ratio.")


class DPOOptions(StageConfig):
    """Direct Preference Optimization, with label smoothing and soft labels where they are asked for."""

    beta: float = beta_field(0.1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Probability that a label is flipped.")
    use_soft_labels: bool = Field(default=False, description="Weigh both orders of a pair by the labeller's probability.")
