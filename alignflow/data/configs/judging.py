"""Config of the stage that measures a judge on gold labels, before anything is labelled by it."""

from __future__ import annotations

from pydantic import Field, model_validator

from alignflow.data.configs.base import ContentPath, StageConfig, runtime_field, seed_field
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.inputs import SourceConfig


class JudgeEvalConfig(StageConfig):
    """A judge against human labels: agreement, biases, calibration."""

    judge: JudgeConfig | None = Field(default=None, description="Who is measured; empty: label.judge.")
    data: tuple[SourceConfig, ...] = Field(
        default=(),
        description="Pairs with human_preference (a, b or tie), pairs of chosen and rejected, or answers with scores.",
    )
    recorded: ContentPath | None = Field(
        default=None, description="File of recorded replies of judges, in place of a judge that is asked."
    )
    family_of_judge: str = Field(
        default="",
        max_length=200,
        description="Family of the judge's model, which names of writers (model_a, model_b) contain: for self-preference; empty: unknown.",
    )
    max_rows: int | None = Field(
        default=None, gt=0, le=1_000_000_000, description="Prompts of each source at most, chosen by hash."
    )
    fit_fraction: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of prompts, by hash, on which temperature and position bias are fitted; the others measure the fit.",
    )
    injections: int = Field(
        default=20, ge=0, le=1000, description="Pairs on which attempts to talk to the judge are tried; 0: none."
    )
    seed: int = seed_field("Seed of the judge, where it samples.")
    batch_size: int = runtime_field(
        default=64, gt=0, le=1_000_000, description="Pairs that are judged and committed together."
    )

    @model_validator(mode="after")
    def _there_is_gold(self) -> JudgeEvalConfig:
        if bool(self.data) == (self.recorded is not None):
            raise ValueError(
                "give either data with human labels for a judge to be asked, or a file of recorded replies"
            )
        if self.recorded is not None and self.judge is not None:
            raise ValueError("recorded replies ask no judge: leave judge out")
        return self
