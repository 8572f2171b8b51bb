"""What a person should know of rows that are kept: figures that speak against a pair's order, and texts that are read in one of two ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Row, is_blank

REMARKS: Mapping[str, str] = {
    "scores_against": "pairs have scores, a margin or a soft label that prefer the rejected answer; they are kept as they stand",
    "scores_equal": "pairs have equal scores, a margin of 0 or a soft label of 0.5; they are kept",
    "filler_input": "rows have a word for nothing as their input, such as nan or <noinput>; it is left out",
    "open_prompt": "prompts end with the mark of an answer, such as Assistant:, and stay one user turn, because what stands before it is not a transcript",
}
"""Name -> what is said behind the number of rows."""
_FILLERS = ("<noinput>", "noinput", "no input", "n/a", "<no input>")
_OPEN = re.compile(
    r"(?i:(?:\A|[\s#*])(?:assistant|response|chatbot|gpt|ai)\s*:\**\s*\Z|\[/INST\]\s*\Z|<\|?assistant\|?>\s*\Z)"
)


def is_filler(value: Any) -> bool:
    """Whether a text is how Alpaca's data sets and pandas write that there is no input."""
    return isinstance(value, str) and bool(value.strip()) and (is_blank(value) or value.strip().lower() in _FILLERS)


def remarks_of(raw: Row, made: Row) -> list[str]:
    """Names of REMARKS that hold for a row of a table.

    Args:
        raw: The row of the source, under its standard names.
        made: What became of it.
    """
    found = [_order(made)] if "chosen" in made and "rejected" in made else []
    if "instruction" in raw and any(is_filler(raw.get(name)) for name in ("input", "context")):
        found.append("filler_input")
    turns = made.get("messages") or made.get("prompt") or ()
    if any(turn["role"] == "user" and _OPEN.search(turn["content"][-100:]) for turn in turns):
        found.append("open_prompt")
    return [name for name in found if name]


def _order(pair: Row) -> str:
    """What the figures of a pair say of its order: nothing, that both answers are as good, or that the rejected one is better."""
    differences = []
    if pair.get("score_chosen") is not None and pair.get("score_rejected") is not None:
        differences.append(pair["score_chosen"] - pair["score_rejected"])
    if pair.get("margin") is not None:
        differences.append(pair["margin"])
    if pair.get("soft_label") is not None:
        differences.append(pair["soft_label"] - 0.5)
    if any(difference < 0 for difference in differences):
        return "scores_against"
    return "scores_equal" if any(difference == 0 for difference in differences) else ""
