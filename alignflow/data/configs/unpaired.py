"""Options of the methods that learn from single answers with a label or a score, and of those that learn what not to say.

Names are those of TRL's KTOConfig and BCOConfig where they have them, else the symbols of the papers.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.pairwise import beta_field


class KTOOptions(StageConfig):
    """Kahneman-Tversky Optimization."""

    beta: float = beta_field(0.1)
    desirable_weight: float = Field(
        default=1.0, gt=0, le=1000, description="The paper's lambda_D: weight of the desirable answers."
    )
    undesirable_weight: float = Field(
        default=1.0, gt=0, le=1000, description="The paper's lambda_U: weight of the undesirable answers."
    )


class BCOOptions(StageConfig):
    """Binary Classifier Optimization. The paper's optional weights by a density ratio of the prompts (UDM) are not here."""

    beta: float = beta_field(0.01)
    delta_kind: Literal["balanced", "pooled"] = Field(
        default="balanced",
        description="Mean reward of each class, halved and added, as in the paper; or the mean of all answers, as in TRL.",
    )
    delta_momentum: float = Field(
        default=0.9, ge=0, lt=1, description="Share of the old value in a running mean of rewards, per step."
    )


class DROVOptions(StageConfig):
    """Direct Reward Optimisation with a value network."""

    tau: float = Field(
        default=1.0, gt=0, le=1000, description="Strength of the pull to the reference, in units of the score per nat."
    )
    normalise_scores: bool = Field(
        default=True, description="Scores with mean 0 and variance 1 over the training set, as in the paper."
    )
    value_per_token: bool = Field(
        default=False,
        description="A value at each token of the answer against the same residual; false: one, at the prompt's last token.",
    )


def alpha_field() -> Any:
    """CRINGE's weight of the negative answers: tuned per task, so that there is no default."""
    return Field(
        gt=0, le=1000, description="Weight of the negative answers' term; tuned per task (the tests have 0.5)."
    )


def top_k_field() -> Any:
    """CRINGE's k: tuned per task, so that there is no default."""
    return Field(
        ge=1,
        le=100,
        description="The paper's k: the positive token is drawn from so many most probable ones; 1 to 5 are usual.",
    )


class CRINGEOptions(StageConfig):
    """CRINGE, for single answers with a label."""

    alpha: float = alpha_field()
    top_k: int = top_k_field()


class PairwiseCRINGEOptions(CRINGEOptions):
    """Pairwise CRINGE: CRINGE with a gate that closes where the margin of a pair is wide enough."""

    b: float = Field(
        ge=-1_000_000,
        le=1_000_000,
        description="Margin of summed log-probabilities, nats, at which the gate is half open; tuned per task.",
    )
    tau: float = Field(gt=0, le=1_000_000, description="Width of the gate, nats; tuned per task.")
    detach_gate: bool = Field(default=True, description="The gate is a weight without gradient; false: it learns, too.")


class NPOOptions(StageConfig):
    """Negative Preference Optimization: forget answers, hold others."""

    beta: float = beta_field(0.1)
    retain: Literal["nll", "kl", "none"] = Field(
        default="nll",
        description="What is done with desirable answers: their NLL, their KL(reference || policy) over the vocabulary, for which the "
        "reference runs beside the policy, or nothing.",
    )
    retain_weight: float = Field(
        default=1.0, ge=0, le=1000, description="Weight of the retained answers' NLL or KL, a mean over their tokens."
    )


def compares_distributions(options: StageConfig) -> bool:
    """Whether these options have a method compare whole distributions, so that its reference runs beside the policy in every step."""
    return isinstance(options, NPOOptions) and options.retain == "kl"


class D2OOptions(StageConfig):
    """Distributional Dispreference Optimization: one negative answer against samples of the model itself."""

    beta: float = beta_field(0.1)
    alpha: float = Field(
        default=0.1, gt=0, le=1000, description="Factor of the negative answer's log-ratio; beta does not multiply it."
    )
