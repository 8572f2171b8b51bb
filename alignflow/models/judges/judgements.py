"""What a judge said, whole: as the journal keeps it, and as judgements.jsonl beside the labels tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignflow.data.run import Run
from alignflow.models.judges.base import IDENTICAL, Assessment, Candidate, Verdict
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.pairing import JudgedPair

if TYPE_CHECKING:
    from alignflow.models.judges.label_tables import LabelledPrompt

FILE = "judgements.jsonl"


def packed_verdict(verdict: Verdict) -> list[Any]:
    """A verdict as JSON; what a judge seldom has stands in a last item, which is missing where it is empty."""
    more: dict[str, Any] = {}
    if any(verdict.rationales):
        more["rationales"] = list(verdict.rationales)
    if verdict.principle:
        more["principle"] = verdict.principle
    if verdict.parts:
        more["parts"] = dict(verdict.parts)
    packed = [verdict.probability, list(verdict.scores), list(verdict.orders), verdict.reason, list(verdict.masses)]
    return [*packed, more] if more else packed


def unpacked_verdict(  # noqa: PLR0913 (the items of a journal's row)
    pair: tuple[Candidate, Candidate],
    probability: float | None,
    scores: Sequence[Any],
    orders: Sequence[Any],
    reason: str,
    masses: Sequence[Any] = (None, None),
    more: Mapping[str, Any] | None = None,
) -> Verdict:
    """A verdict from the journal, where those of earlier versions have no masses. No judge decides between equal answers."""
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


def packed_assessments(found: Sequence[Assessment]) -> dict[str, Any]:
    """What a judge said of a prompt's answers as JSON; lists that hold nothing are missing."""
    packed: dict[str, Any] = {
        "scores": [each.score for each in found],
        "details": [dict(each.details) for each in found],
    }
    more = {
        "notes": [dict(each.notes) for each in found],
        "reasons": [each.reason for each in found],
        "masses": [each.mass for each in found],
    }
    empty = {"notes": {}, "reasons": "", "masses": None}
    return packed | {name: values for name, values in more.items() if any(value != empty[name] for value in values)}


def unpacked_assessments(packed: Mapping[str, Any]) -> list[Assessment]:
    """What `packed_assessments` packed."""
    count = len(packed["scores"])
    notes, reasons = packed.get("notes", [{}] * count), packed.get("reasons", [""] * count)
    masses = packed.get("masses", [None] * count)
    return [
        Assessment(*each) for each in zip(packed["scores"], packed["details"], notes, reasons, masses, strict=True)
    ]


def write_judgements(labelled: Sequence[LabelledPrompt], run: Run) -> None:
    """Write judgements.jsonl, where the judge compared pairs or wrote something: a line for each pair that it was asked about, or for each
    answer that it graded, with what it wrote, the principle, both orders and how much probability lay on its options."""
    lines = [line for prompt in labelled for line in (*_of_pairs(prompt), *_of_answers(prompt))]
    if lines:
        text = "".join(f"{json.dumps(line, ensure_ascii=False, sort_keys=True)}\n" for line in lines)
        (run.out / FILE).write_text(text, encoding="utf-8")


def _of_pairs(labelled: LabelledPrompt) -> Iterator[dict[str, Any]]:
    for pair in labelled.judged if not labelled.assessments else ():
        yield {"id": labelled.row["id"], "held_out": labelled.held_out, **_pair(pair)}


def _pair(pair: JudgedPair) -> dict[str, Any]:
    verdict = pair.verdict
    return {
        "first": pair.first,
        "second": pair.second,
        "probability": verdict.probability,
        "orders": list(verdict.orders),
        "option_mass": list(verdict.masses),
        "flips": verdict.flips,
        "reason": verdict.reason,
        "principle": verdict.principle,
        "rationales": list(verdict.rationales) if any(verdict.rationales) else [],
        "parts": dict(verdict.parts),
    }


def _of_answers(labelled: LabelledPrompt) -> Iterator[dict[str, Any]]:
    """The answers of a judge that has more to say than scores and details, which stand in the tables."""
    said = any(each.notes or each.reason or each.mass is not None for each in labelled.assessments)
    for place, each in enumerate(labelled.assessments if said else ()):
        yield {
            "id": labelled.row["id"],
            "held_out": labelled.held_out,
            "completion": place,
            "score": each.score,
            "details": dict(each.details),
            "notes": dict(each.notes),
            "reason": each.reason,
            "option_mass": each.mass,
        }
