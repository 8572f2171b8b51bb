"""Rounds of sample, label and train: how many, what they compare with, and what one of them does otherwise. And options of iterated methods."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.step_names import MOST_ROUNDS, base_and_round

Reference = Literal["initial", "previous"]
OVERRIDDEN = ("sample", "revise", "label", "select", "align", "evaluate")
"""Sections of a recipe that a round may have otherwise."""


class RoundsConfig(StageConfig):
    """Rounds in which the policy answers, a judge labels, and the policy learns from that. No field but overrides is in the key of a round."""

    number: int | None = Field(
        default=None,
        ge=1,
        le=MOST_ROUNDS,
        description="Number of rounds; empty: as many as the method has by itself, 0 for one that learns from data that is there. One more "
        "runs that round alone, and what follows it.",
    )
    reference: Reference | None = Field(
        default=None,
        description="Whom a round's training compares with. initial: the model before the first round, in all of them; previous: the model "
        "that the round starts from; empty: as the method's paper has it, initial where it has no rounds.",
    )
    prompt_parts: int = Field(
        default=1,
        ge=1,
        le=MOST_ROUNDS,
        description="Parts into which prompts are cut, by hash: round t samples part t, and after the last part the first again. 1: all "
        "prompts in every round, with another seed.",
    )
    first: Literal["samples", "data"] = Field(
        default="samples",
        description="What the first round learns from. samples: as all others; data: the recipe's own, such as data.preferences.",
    )
    evaluate: bool = Field(
        default=False,
        description="Compare the model of every round with the SFT model, and not that of the last alone.",
    )
    overrides: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="What one round has otherwise: step -> fields of its section, such as label.2: {judge: {name: rubric}}. As a setting: "
        "label.2.judge.name=rubric. Another judge, engine or method leaves the options of the first one behind.",
    )

    @field_validator("overrides")
    @classmethod
    def _of_steps_with_rounds(cls, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in given:
            base, number = base_and_round(name)
            if base not in OVERRIDDEN or not number:
                raise ValueError(
                    f"{name!r} is no step of a round: write one of {', '.join(OVERRIDDEN)} with its round, such as label.2"
                )
        return given


class SPPOOptions(StageConfig):
    """Self-Play Preference Optimization."""

    eta: float = Field(
        default=1000.0,
        gt=0,
        le=1e9,
        description="Log-ratio that a win rate of 1 beyond one half is worth, nats: 1 / beta of the authors' code.",
    )
    targets: Literal["win_rates", "hard"] = Field(
        default="win_rates",
        description="win_rates: the log-ratios of both answers are drawn to eta (P - 1/2), half of each square counts. hard: P is 1 for the "
        "better and 0 for the worse answer, and whole squares count, as in TRL's sppo_hard.",
    )


class DNOOptions(StageConfig):
    """Direct Nash Optimization, equation 8."""

    eta: float = Field(
        default=0.1, gt=0, le=1000, description="Strength of the pull to the reference: reward = eta * log-ratio."
    )


class IteratedDPOOptions(DPOOptions):
    """DPO on the best and the worst answer of each prompt."""
