"""The judges: ways to compare answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import options


@dataclass(frozen=True)
class JudgeRow(PartWithOptions):
    """One way to compare answers.

    Attributes:
        needs: Input that it falls back on where `options.model` is empty: policy, reward_model, or nothing.
        pointwise: Whether it scores each answer by itself; else it compares pairs, and the scores of rankings are win rates.
        generates: Whether it asks a language model, which an engine of `alignflow generators` runs.
    """

    needs: str = ""
    pointwise: bool = True
    generates: bool = False


JUDGES: Mapping[str, JudgeRow] = {
    "rubric": JudgeRow(
        "alignflow.models.judges.rubric:RubricJudge",
        "Named, weighted, checkable principles; no model.",
        options=options.RubricOptions,
        version="2",
    ),
    "reward_model": JudgeRow(
        "alignflow.models.judges.reward_model:RewardModelJudge",
        "Scores of a reward model.",
        options=options.RewardModelJudgeOptions,
        needs="reward_model",
    ),
    "llm": JudgeRow(
        "alignflow.models.judges.llm:LLMJudge",
        "A local model, asked in both orders; reads option log-probabilities.",
        options=options.LLMJudgeOptions,
        needs="policy",
        pointwise=False,
        generates=True,
        version="4",
    ),
}
