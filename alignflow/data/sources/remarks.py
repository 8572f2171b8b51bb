"""What a person should know of rows that are kept: figures that speak against a pair's order, and texts that are read in one of two ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Row, is_blank

REMARKS: Mapping[str, str] = {
    "scores_against": "pairs have scores, a margin or a soft label that prefer the rejected answer; they are kept as they stand",
    "scores_equal": "pairs have equal scores, a margin of 0 or a soft label of 0.5; they are kept",
    "speaker_in_answer": "rows have an answer that begins with the name of its speaker, such as Assistant:; it is learnt",
    "turn_in_answer": "rows have an answer that goes on with a turn of the user, such as Human: on a line of its own; it is learnt",
    "damaged_characters": "rows have damaged characters in their text (U+FFFD, or \u00c3\u00a9 in the place of \u00e9): somebody read their bytes in a wrong encoding",
    "filler_input": "rows have a word for nothing as their input, such as nan or <noinput>; it is left out",
    "open_prompt": "prompts end with the mark of an answer, such as Assistant:, and stay one user turn, because what stands before it is not a transcript",
}
"""Name -> what is said behind the number of rows."""
_FILLERS = ("<noinput>", "noinput", "no input", "n/a", "<no input>")
_OPEN = re.compile(
    r"(?i:(?:\A|[\s#*])(?:assistant|response|chatbot|gpt|ai)\s*:\**\s*\Z|\[/INST\]\s*\Z|<\|?assistant\|?>\s*\Z)"
)
_SPEAKER = re.compile(r"\A\s*(?:### )?(?:Assistant|ASSISTANT|GPT|AI|Response|Bot)\s*:\s")
_NEXT = re.compile(r"\n\s*(?:### )?(?:Human|USER)\s*:\s|\n\n(?:User|### Instruction)\s*:\s")
_NEXT_WORDS = ("Human", "USER", "User", "### Instruction")
_DAMAGED_SIGNS = ("\ufffd", "\u00c3", "\u00e2\u20ac")
_DAMAGED = re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6]")
"""The mark of bytes that could not be read, and what UTF-8 looks like that was read as Latin-1 or as Windows-1252."""


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
    if any(turn["role"] == "user" and _is_open(turn["content"]) for turn in turns):
        found.append("open_prompt")
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    answers += [turn["content"] for side in ("chosen", "completion") for turn in made.get(side) or ()]
    if any(_SPEAKER.match(answer) for answer in answers):
        found.append("speaker_in_answer")
    if any(_has_next_turn(answer) for answer in answers):
        found.append("turn_in_answer")
    others = [turn["content"] for turn in turns if turn["role"] != "assistant"]
    others += [turn["content"] for turn in made.get("rejected") or ()]
    if any(_is_damaged(text) for text in (*answers, *others, *made.get("completions", ()), made.get("text", ""))):
        found.append("damaged_characters")
    return [name for name in found if name]


def _is_open(prompt: str) -> bool:
    end = prompt[-60:].rstrip()
    return end.endswith((":", "*", "]", ">")) and _OPEN.search(end) is not None


def _has_next_turn(answer: str) -> bool:
    """Told by words first, which is fast: few answers have them."""
    return any(word in answer for word in _NEXT_WORDS) and _NEXT.search(answer) is not None


def _is_damaged(text: str) -> bool:
    return not text.isascii() and any(sign in text for sign in _DAMAGED_SIGNS) and _DAMAGED.search(text) is not None


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
