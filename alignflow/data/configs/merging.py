"""Config of the stage that merges adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alignflow.data.configs.base import StageConfig, seed_field

UNREAD = {"linear": ("density", "divisor"), "dare_linear": ("divisor",)}
"""Method of a merge -> the fields that it does not read."""


class MergeConfig(StageConfig):
    """PAFT (arXiv 2406.17923): `sft` and `align` train adapters from one base without waiting for each other, and both are merged."""

    method: Literal["linear", "ties", "dare_linear", "dare_ties"] = Field(
        default="ties",
        description="How the two changes of each weight matrix become one. linear: their weighted sum. ties: each is trimmed to its "
        "largest entries, and entries of opposite signs are not added up. dare_linear, dare_ties: a random share of the entries of "
        "each is dropped and the rest scaled up before.",
    )
    sft_weight: float = Field(default=1.0, ge=0, le=100, description="Factor of what sft changed.")
    align_weight: float = Field(default=1.0, ge=0, le=100, description="Factor of what align changed.")
    density: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="ties: share of each matrix's entries that is kept of each adapter, those of the greatest magnitude. dare_linear, "
        "dare_ties: probability that an entry is kept.",
    )
    divisor: Literal["count", "weight"] = Field(
        default="count",
        description="ties, dare_ties: whether the sum of entries of the elected sign is divided by their number, as in peft, or by the "
        "sum of their weights, as in mergekit.",
    )
    seed: int = seed_field("Seed of what dare_linear and dare_ties drop.")

    @model_validator(mode="after")
    def _the_method_reads_what_is_set(self) -> MergeConfig:
        unread = [
            name for name in UNREAD.get(self.method, ()) if getattr(self, name) != type(self).model_fields[name].default
        ]
        if unread:
            raise ValueError(f"a merge by {self.method} does not read {', '.join(unread)}: leave it out")
        if not self.sft_weight + self.align_weight:
            raise ValueError("sft_weight and align_weight are both 0: the result would be the base")
        return self
