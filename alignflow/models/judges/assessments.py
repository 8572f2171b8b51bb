"""Complete assessments of a pointwise judge, for the journal and for assessments.jsonl next to the labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignflow.data.run import Run
from alignflow.models.judges.base import Assessment

if TYPE_CHECKING:
    from alignflow.models.judges.label_tables import LabelledPrompt

FILE = "assessments.jsonl"


def packed_assessments(found: Sequence[Assessment]) -> dict[str, Any]:
    """A judge's assessments of a prompt's answers as JSON; empty lists are missing."""
    packed: dict[str, Any] = {
        "scores": [each.score for each in found],
        "details": [dict(each.details) for each in found],
    }
    more: dict[str, list[Any]] = {
        "notes": [dict(each.notes) for each in found],
        "reasons": [each.reason for each in found],
        "masses": [each.mass for each in found],
    }
    empty: dict[str, Any] = {"notes": {}, "reasons": "", "masses": None}
    return packed | {name: values for name, values in more.items() if any(value != empty[name] for value in values)}


def unpacked_assessments(packed: Mapping[str, Any]) -> list[Assessment]:
    """The inverse of `packed_assessments`."""
    count = len(packed["scores"])
    notes, reasons = packed.get("notes", [{}] * count), packed.get("reasons", [""] * count)
    masses = packed.get("masses", [None] * count)
    return [Assessment(*each) for each in zip(packed["scores"], packed["details"], notes, reasons, masses, strict=True)]


def write_assessments(labelled: Sequence[LabelledPrompt], run: Run) -> None:
    """Write assessments.jsonl, one line per answer, if a pointwise judge wrote a text, gave some answers no score, or was asked for
    options."""
    lines = [line for prompt in labelled for line in _of_answers(prompt)]
    if lines:
        text = "".join(f"{json.dumps(line, ensure_ascii=False, sort_keys=True)}\n" for line in lines)
        (run.out / FILE).write_text(text, encoding="utf-8")


def _of_answers(labelled: LabelledPrompt) -> Iterator[dict[str, Any]]:
    """Assessments with more than scores and details, which are in the tables."""
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
