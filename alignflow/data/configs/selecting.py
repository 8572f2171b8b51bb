"""Config of the stage that keeps some of the scored answers to each prompt: best of n, a threshold, rejection sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import StageConfig, seed_field


class SelectConfig(StageConfig):
    """Which of the scored answers to a prompt are kept, as demonstrations, as lists, and as pairs."""

    rule: Literal["best", "threshold", "rso"] = Field(
        default="best",
        description="best: the n answers with the highest scores. threshold: all with at least minimum. rso: each with the probability "
        "exp((score - highest) / beta), by a seed (arXiv 2309.06657); highest is that of the prompt.",
    )
    n: int = Field(default=1, ge=1, le=64, description="best: answers that are kept of a prompt.")
    minimum: float | None = Field(
        default=None,
        ge=-1_000_000,
        le=1_000_000,
        description="best, threshold: answers with a lower score are not kept; empty: there is no limit.",
    )
    beta: float = Field(
        default=0.5, gt=0, le=1000, description="rso: how much of a score is forgiven; small: the best alone."
    )
    seed: int = seed_field("rso: what is accepted, and which accepted answers meet.")

    @model_validator(mode="after")
    def _the_rule_reads_what_is_set(self) -> SelectConfig:
        unread = {"best": ("beta",), "threshold": ("n", "beta"), "rso": ("n", "minimum")}[self.rule]
        for name in unread:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is not read where rule is {self.rule}: leave it out")
        if self.rule == "threshold" and self.minimum is None:
            raise ValueError("rule threshold needs minimum")
        return self
