"""The judges: ways to compare answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import judges, options


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
    "constitutional": JudgeRow(
        "alignflow.models.judges.constitutional:ConstitutionalJudge",
        "A language model, asked in both orders which answer keeps a principle better.",
        options=judges.ConstitutionalOptions,
        needs="policy",
        pointwise=False,
        generates=True,
    ),
    "rating": JudgeRow(
        "alignflow.models.judges.rating:RatingJudge",
        "A language model's grades: expected value over the scale, by one or several aspects.",
        options=judges.RatingOptions,
        needs="policy",
        generates=True,
    ),
    "additive": JudgeRow(
        "alignflow.models.judges.additive:AdditiveJudge",
        "A language model adds up five points and writes a score, as in Self-Rewarding.",
        options=judges.AdditiveOptions,
        needs="policy",
        generates=True,
    ),
    "checklist": JudgeRow(
        "alignflow.models.judges.checklist:ChecklistJudge",
        "A language model writes points for each prompt and checks each answer by them.",
        options=judges.ChecklistOptions,
        needs="policy",
        generates=True,
    ),
    "jury": JudgeRow(
        "alignflow.models.judges.jury:Jury",
        "Several judges: mean, majority or weighted; their disagreement is kept.",
        options=judges.JuryOptions,
        pointwise=False,
    ),
    "pairrm": JudgeRow(
        "alignflow.models.judges.pairrm:PairRMJudge",
        "A model that reads prompt and both answers and gives one logit, in both orders.",
        options=judges.PairRMOptions,
        pointwise=False,
    ),
}
