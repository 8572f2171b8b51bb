"""Options of the methods that look at single tokens, at whole distributions over the vocabulary, or at a whole optimizer step.

Names are those of TRL's DPOConfig (`ld_alpha`) and GKDConfig (`lmbda`, `beta`, `temperature`) where they have them.
"""

from __future__ import annotations

from pydantic import Field

from alignflow.data.configs.base import ModelPath, StageConfig, Temperature
from alignflow.data.configs.pairwise import beta_field


class TDPO1Options(StageConfig):
    """Token-level DPO, first form: the difference of the sequential KLs counts in full, and both take gradients."""

    beta: float = beta_field(0.1)


class TDPO2Options(StageConfig):
    """Token-level DPO, second form: the chosen answer's KL takes no gradient."""

    beta: float = beta_field(0.1)
    alpha: float = Field(
        default=0.5, ge=0, le=1000, description="Weight of the difference of the sequential KLs; 0: DPO."
    )


class LDDPOOptions(StageConfig):
    """DPO that is less sensitive to length."""

    beta: float = beta_field(0.1)
    ld_alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the tokens beyond the shorter answer's length; 1: DPO."
    )


class BetaDPOOptions(StageConfig):
    """DPO with a beta for each optimizer step, and without the pairs that are far from the usual gap."""

    beta: float = beta_field(0.1)
    alpha: float = Field(
        default=0.6, ge=0, le=1000, description="How strongly beta follows the step's mean gap; 0: beta stays as it is."
    )
    keep_fraction: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of a step's pairs that are kept, drawn by how near their gap is to the mean; 1: all.",
    )
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="Of the moving averages of the gaps' mean and standard deviation."
    )
    scale_gap_by_beta: bool = Field(
        default=False,
        description="Gaps as differences of rewards, beta * log-ratio; false: of log-ratios, as in the authors' code.",
    )


class GKDOptions(StageConfig):
    """Generalized Knowledge Distillation on given answers."""

    beta: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Weight of the teacher in the mixture that both are compared with; 0: KL(teacher || student), 1: KL(student || teacher).",
    )
    temperature: Temperature = Field(default=0.9, gt=0, le=1000, description="What both models' logits are divided by.")
    lmbda: float = Field(
        default=0.0, ge=0, le=0, description="Share of answers that the student samples; 0, since they are given here."
    )


class GKDTrainingOptions(GKDOptions):
    """What a training by GKD has beside the options of its loss."""

    teacher: ModelPath = Field(
        description="Directory or Hub id of the teacher, which has the student's tokenizer; its weights stay as they are."
    )
