"""Families of numbers about the aligned model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Evaluator(Part):
    """One family of numbers about the aligned model.

    Attributes:
        needs: The inputs that it cannot do without.
        package: The package that it cannot do without, by its import name; its extra is called by the same name, with dashes.
    """

    needs: tuple[str, ...] = ()
    package: str = ""


EVALUATORS: Mapping[str, Evaluator] = {
    "win_rate": Evaluator(
        "alignflow.models.evaluators.win_rate:evaluate",
        "Wins against SFT by each judge, asked in both orders.",
        version="2",
        needs=("judges",),
    ),
    "instructions": Evaluator(
        "alignflow.models.evaluators.instructions:evaluate",
        "Verifiable instructions kept, IFEval's kind.",
        needs=("instructions",),
        version="2",
    ),
    "verifiable": Evaluator(
        "alignflow.models.evaluators.verifiable:evaluate",
        "Accuracy of both models' greedy answers by the verifiers, with Wilson's interval.",
        needs=("verifiable",),
        version="2",
    ),
    "reward_score": Evaluator(
        "alignflow.models.evaluators.reward_score:evaluate",
        "Mean reward of both models' answers.",
        needs=("reward_model",),
    ),
    "kl": Evaluator("alignflow.models.evaluators.kl:evaluate", "KL of the aligned model to SFT on its own answers."),
    "text_statistics": Evaluator(
        "alignflow.models.evaluators.text_statistics:evaluate", "Lengths, repetition and stop rate."
    ),
    "heldout_nll": Evaluator(
        "alignflow.models.evaluators.heldout_nll:evaluate", "NLL per token on general text.", needs=("general",)
    ),
    "token_credit": Evaluator(
        "alignflow.models.evaluators.token_credit:evaluate",
        "The implicit reward of each token of both models' answers: a table, and a heat map in the report.",
    ),
    "lm_eval": Evaluator(
        "alignflow.models.evaluators.lm_eval:evaluate",
        "Tasks of the lm-evaluation-harness on both models, with the harness' standard errors.",
        needs=("lm_eval",),
        package="lm_eval",
    ),
}
