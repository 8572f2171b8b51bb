"""What stages that ask a judge share: who it is in a journal, verdicts as JSON, verdicts as outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.judging.calibration import Calibration
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.own_module import short
from alignflow.models.generation.base import generator_identity
from alignflow.models.judges.base import IDENTICAL, Candidate, Judge, Verdict, judge_row, own_source
from alignflow.models.judges.blanks import same_answer


def judge_identity(config: JudgeConfig, judge: Judge, seed: int) -> dict[str, Any]:
    """Everything about a judge that its raw labels depend on, for the id of a row in a journal."""
    return {
        "name": short(config.name),
        "source": own_source(config.name),
        "options": config.options,
        "fingerprint": judge.fingerprint,
        "seed": seed,
        "version": judge_row(config.name).version,
        **generator_identity(config.generator),
    }


def packed(verdict: Verdict) -> list[Any]:
    """A verdict as JSON."""
    return [verdict.probability, list(verdict.scores), list(verdict.orders), verdict.reason, list(verdict.masses)]


def unpacked(
    pair: tuple[Candidate, Candidate],
    probability: float | None,
    scores: list[Any],
    orders: list[Any],
    reason: str,
    masses: Sequence[Any] = (None, None),
) -> Verdict:
    """A verdict from a journal, where those of earlier versions have no masses. No judge decides between equal answers."""
    if same_answer(pair[0].text, pair[1].text):
        return Verdict(None, reason=IDENTICAL)
    return Verdict(probability, (scores[0], scores[1]), (orders[0], orders[1]), reason, (masses[0], masses[1]))


def outcome_of(verdict: Verdict, row: str, texts: tuple[str, str], **known: Any) -> Outcome:
    """What a judge report counts of a verdict; `known` are gold and families."""
    return Outcome(
        row,
        verdict.probability,
        verdict.orders,
        verdict.masses,
        verdict.reason,
        lengths=(len(texts[0]), len(texts[1])),
        **known,
    )


def calibrated(verdict: Verdict, calibration: Calibration | None) -> Verdict:
    """The verdict with calibrated orders and label; one without a label, or without both orders, as it is."""
    if calibration is None:
        return verdict
    found = calibration.of(Outcome("", verdict.probability, verdict.orders))
    return replace(verdict, probability=found.probability, orders=found.orders)
