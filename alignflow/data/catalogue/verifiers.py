"""Checks of an answer that a program can make: rewards without a model, and the accuracy of the evaluator `verifiable`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import verifiers


@dataclass(frozen=True)
class Verifier(PartWithOptions):
    """One check; `needs` names the column of the prompts table that it reads, where its options do not replace it."""

    needs: str = ""


VERIFIERS: Mapping[str, Verifier] = {
    "exact_answer": Verifier(
        "alignflow.models.rewards.verifiers.exact:ExactAnswer",
        "The reference answer, word for word.",
        options=verifiers.ExactAnswerOptions,
        version="2",
        needs="reference",
    ),
    "numeric_answer": Verifier(
        "alignflow.models.rewards.verifiers.numeric:NumericAnswer",
        "The number that a worked solution ends with, compared by value.",
        options=verifiers.NumericAnswerOptions,
        version="2",
        needs="reference",
    ),
    "regular_expression": Verifier(
        "alignflow.models.rewards.verifiers.patterns:RegularExpression",
        "A pattern that the answer has to match; a search has a time limit.",
        options=verifiers.RegularExpressionOptions,
        needs="reference",
    ),
    "json_schema": Verifier(
        "alignflow.models.rewards.verifiers.json_schema:JSONSchema",
        "JSON that a schema allows.",
        options=verifiers.JSONSchemaOptions,
        needs="reference",
    ),
    "length": Verifier(
        "alignflow.models.rewards.verifiers.length:Length",
        "A length in tokens, words or characters within bounds.",
        options=verifiers.LengthOptions,
    ),
    "ifeval": Verifier(
        "alignflow.models.rewards.verifiers.ifeval:IFEval",
        "The row's verifiable instructions, by IFEval's names.",
        options=verifiers.IFEvalOptions,
        version="2",
        needs="instructions",
    ),
}
