"""Options of the methods that learn from several answers to a prompt, ordered by their scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.pairwise import beta_field

FOR_WIN_RATES = "for_win_rates"
"""Mark of a field: its value where scores are win rates of a pairwise judge, and the recipe does not set it."""


class LiPOOptions(StageConfig):
    """LiPO-lambda."""

    beta: float = beta_field(0.05)
    labels: Literal["scores", "win_rates"] = Field(
        default="win_rates",
        description="What the gain 2^label - 1 is made of: win_rates, an answer's mean probability to beat the answers of its list, "
        "sigmoid(score difference), for scores of any range; or the scores as they are, which must be between 0 and 1. Scores are taken "
        "by default from the label stage where its judge compares pairs: they are win rates already.",
        json_schema_extra={FOR_WIN_RATES: "scores"},
    )
    reduction: Literal["sum", "rax"] = Field(
        default="sum",
        description="Sum over a prompt's pairs; rax: as in the authors' library, their mean times the number of answers.",
    )


def score_range(options: StageConfig) -> tuple[float, float] | None:
    """Between what scores have to lie for a method with these options; None: any will do."""
    return (0.0, 1.0) if isinstance(options, LiPOOptions) and options.labels == "scores" else None


class ListMLEOptions(StageConfig):
    """ListMLE on implicit rewards."""

    beta: float = beta_field(0.05)


class RRHFOptions(StageConfig):
    """RRHF: a hinge on mean log-probabilities, and SFT on the best answer."""

    rank_weight: float = Field(
        default=1.0, ge=0, le=1_000_000, description="Weight of the ranking term beside the best answer's NLL."
    )
    sft_reduction: Literal["sum", "mean"] = Field(
        default="sum", description="The best answer's NLL as a sum over its tokens, as in the paper, or as their mean."
    )


class PROOptions(StageConfig):
    """Preference Ranking Optimization."""

    sft_coefficient: float = Field(
        default=0.05,
        ge=0,
        le=1000,
        description="Times (answers - 1)^2: weight of the best answer's NLL, summed over its tokens.",
    )
