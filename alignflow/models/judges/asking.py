"""Shared by stages that ask a judge: its identity in a journal, verdicts as JSON, verdicts as outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.judging.calibration import Calibration
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.own_module import short
from alignflow.models.generation.base import generator_identity
from alignflow.models.generation.named_models import named_models
from alignflow.models.judges.base import IDENTICAL, Candidate, Judge, Verdict, judge_row, own_source
from alignflow.models.judges.blanks import same_answer


def judge_identity(config: JudgeConfig, judge: Judge, seed: int) -> dict[str, Any]:
    """Everything about a judge that its raw labels depend on, for the id of a row in a journal."""
    models = named_models(config)
    return {
        "name": short(config.name),
        "source": own_source(config.name),
        "options": config.options,
        "fingerprint": judge.fingerprint,
        "seed": seed,
        "version": judge_row(config.name).version,
        **generator_identity(config.generator),
        **({"models": models} if models else {}),
    }


def packed(verdict: Verdict) -> list[Any]:
    """A verdict as JSON; rare fields are in a last item, which is missing if it is empty."""
    more = {
        "rationales": list(verdict.rationales) if any(verdict.rationales) else [],
        "principle": verdict.principle,
        "parts": dict(verdict.parts),
    }
    more = {name: value for name, value in more.items() if value}
    known = [verdict.probability, list(verdict.scores), list(verdict.orders), verdict.reason, list(verdict.masses)]
    return [*known, more] if more else known


def unpacked(  # noqa: PLR0913 (the items of a journal's row)
    pair: tuple[Candidate, Candidate],
    probability: float | None,
    scores: list[Any],
    orders: list[Any],
    reason: str,
    masses: Sequence[Any] = (None, None),
    more: Mapping[str, Any] | None = None,
) -> Verdict:
    """A verdict from a journal, where verdicts of earlier versions have no masses. No judge decides between equal answers."""
    if same_answer(pair[0].text, pair[1].text):
        return Verdict(None, reason=IDENTICAL)
    more = more or {}
    given, swapped = more.get("rationales", ("", ""))
    return Verdict(
        probability,
        (scores[0], scores[1]),
        (orders[0], orders[1]),
        reason,
        (masses[0], masses[1]),
        (given, swapped),
        more.get("principle", ""),
        more.get("parts", {}),
    )


def said(verdict: Verdict) -> dict[str, Any]:
    """The judge's texts and its principle, as columns of the table of verdicts; null if there are none."""
    given, swapped = verdict.rationales
    return {
        "principle": verdict.principle or None,
        "rationale_given": given or None,
        "rationale_swapped": swapped or None,
        "parts": json.dumps(dict(verdict.parts), sort_keys=True) if verdict.parts else None,
    }


def outcome_of(verdict: Verdict, row: str, texts: tuple[str, str], **known: Any) -> Outcome:
    """The outcome of a verdict for a judge report; `known` are gold and families."""
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
    """The verdict with calibrated orders and label; a verdict without a label, or without both orders, is unchanged."""
    if calibration is None:
        return verdict
    found = calibration.of(Outcome("", verdict.probability, verdict.orders))
    return replace(verdict, probability=found.probability, orders=found.orders)
