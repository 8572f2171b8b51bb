"""Options of the methods that learn from pairs. Names are those of TRL's DPOConfig, CPOConfig and ORPOConfig where they have them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignflow.data.configs.base import StageConfig


def beta_field(default: float) -> Any:
    """The strength of the pull to the reference: what turns a log-ratio, in nats, into an implicit reward."""
    return Field(
        default=default, gt=0, le=1000, description="Strength of the pull to the reference: reward = beta * log-ratio."
    )


class DPOOptions(StageConfig):
    """Direct Preference Optimization, with label smoothing and soft labels where they are asked for."""

    beta: float = beta_field(0.1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="Probability that a label is flipped.")
    use_soft_labels: bool = Field(
        default=False, description="Weigh both orders of a pair by the labeller's probability."
    )


class CDPOOptions(DPOOptions):
    """Conservative DPO: DPO with smoothed labels."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5, description="Probability that a label is flipped.")


class RobustOptions(StageConfig):
    """Robust DPO: unbiased where labels are flipped at a known rate."""

    beta: float = beta_field(0.1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5, description="Rate at which labels are flipped.")


class IPOOptions(StageConfig):
    """Identity Preference Optimization."""

    beta: float = Field(
        default=0.1, gt=0, le=1000, description="The paper's tau: the gap of log-ratios is drawn to 1 / (2 beta)."
    )
    length_normalise: bool = Field(
        default=True, description="Log-ratios as means over tokens, as in TRL; false: sums, as in the paper."
    )


class DPOPOptions(StageConfig):
    """DPO-Positive."""

    beta: float = beta_field(0.3)
    dpop_lambda: float = Field(
        default=50.0, ge=0, le=1_000_000, description="Weight of the nats that the chosen answer lost."
    )


class RDPOOptions(StageConfig):
    """Length-regularised DPO."""

    beta: float = beta_field(0.1)
    alpha: float = Field(
        default=0.01, ge=0, le=1000, description="Reward per token that a longer answer is taken to have anyway."
    )


class GPOOptions(StageConfig):
    """Generalized Preference Optimization."""

    beta: float = beta_field(0.1)
    form: Literal["logistic", "hinge", "squared", "exponential", "truncated_squared", "savage"] = Field(
        default="logistic", description="The function of the reward margin; savage alone is not convex."
    )


class FDPOOptions(StageConfig):
    """f-DPO: another divergence to the reference than the reverse KL."""

    beta: float = beta_field(0.1)
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        default="reverse_kl", description="The divergence; reverse_kl is DPO."
    )
    f_alpha_divergence_coef: float = Field(
        default=0.5, gt=0, le=10, description="Alpha of the alpha divergence; 1: reverse KL."
    )


class EXOOptions(StageConfig):
    """Efficient Exact Optimization, for pairs."""

    beta: float = beta_field(0.1)
    label_smoothing: float = Field(
        default=1e-3, gt=0, lt=0.5, description="Probability of the rejected answer in the target."
    )


class BetaOptions(StageConfig):
    """One strength of the pull to the reference."""

    beta: float = beta_field(0.1)


class RSOOptions(StageConfig):
    """The hinge loss of RSO and of SLiC normalised by a reference."""

    beta: float = Field(
        default=0.05, gt=0, le=1000, description="The paper's gamma: the margin of log-ratios is drawn to 1 / beta."
    )


class WPOOptions(StageConfig):
    """Weighted Preference Optimization."""

    beta: float = beta_field(0.01)


class LengthNormalisedOptions(StageConfig):
    """DPO with log-ratios as means over tokens."""

    beta: float = beta_field(5.0)


class SLiCOptions(StageConfig):
    """SLiC-HF: a hinge on log-probabilities, and a pull to the target."""

    delta: float = Field(default=1.0, ge=0, le=1_000_000, description="Margin of the log-probabilities, nats.")
    reg_coef: float = Field(
        default=0.1, ge=0, le=1000, description="Weight of the target answer's NLL, summed over tokens."
    )


class SimPOOptions(StageConfig):
    """Simple Preference Optimization."""

    beta: float = Field(default=2.0, gt=0, le=1000, description="Factor of the mean log-probability.")
    gamma: float = Field(
        default=1.0, ge=0, le=1000, description="Margin of the rewards (the authors' gamma_beta_ratio times beta)."
    )


class CPOOptions(StageConfig):
    """Contrastive Preference Optimization."""

    beta: float = Field(default=0.1, gt=0, le=1000, description="Factor of the summed log-probabilities.")
    cpo_alpha: float = Field(default=1.0, ge=0, le=1000, description="Weight of the chosen answers' NLL.")
    nll_reduction: Literal["token", "sequence"] = Field(
        default="token",
        description="NLL as the mean over the tokens of a step, as in TRL, or as sums per answer, as in the paper.",
    )


class ORPOOptions(StageConfig):
    """Odds Ratio Preference Optimization."""

    beta: float = Field(
        default=0.1, ge=0, le=1000, description="The paper's lambda: weight of the odds-ratio term beside the NLL."
    )
    nll_tokens: Literal["answer", "prompt_and_answer"] = Field(
        default="answer",
        description="What the NLL of the chosen answers is over: their tokens, as in the paper, or also those of their prompts, as in TRL "
        "and the authors' code; prompts are then computed once more.",
    )


def nll_of_prompts(options: StageConfig) -> bool:
    """Whether the NLL that a method with these options has is over the prompts, too."""
    return isinstance(options, ORPOOptions) and options.nll_tokens == "prompt_and_answer"
