"""TRL's columns: prompt, completion, chosen, rejected, label, completions, scores; as text or as conversations."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.records import assistant
from alignflow.data.sources import comparison
from alignflow.data.sources.base import (
    Row,
    RowError,
    as_answer,
    as_prompt,
    column,
    conversation,
    demonstration,
    flag,
    label,
    number,
    parse_with,
    preference,
    probability,
    prompt_of,
    prompt_row,
    text,
)  # fmt: skip


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _demonstration(row: Row) -> list[Row]:
    return [demonstration([*as_prompt(column(row, "prompt")), *assistant(as_answer(column(row, "completion", "chosen")))])]


def _preference(row: Row) -> list[Row]:
    if row.get("completions") is not None and row.get("chosen") is None:
        return [comparison.best_and_worst(*comparison.scored(row))]
    chosen, rejected = column(row, "chosen"), column(row, "rejected")
    if row.get("prompt") is None:  # the prompt is inside both conversations (TRL's implicit prompt)
        if isinstance(chosen, str):
            raise RowError("missing_column")
        turns, others = (demonstration(conversation(side))["messages"] for side in (chosen, rejected))
        if turns[:-1] != others[:-1]:
            raise RowError("different_prompts")
        return [preference(prompt_of(turns), turns[-1]["content"], others[-1]["content"])]
    figures = {
        "soft_label": probability(row.get("soft_label")), "margin": number(row.get("margin")),
        "score_chosen": number(row.get("score_chosen")), "score_rejected": number(row.get("score_rejected")),
    }  # fmt: skip
    return [{**preference(as_prompt(row["prompt"]), as_answer(chosen), as_answer(rejected), **figures), **_ends(row)}]


def _ends(row: Row) -> Row:
    found = {name: flag(row.get(name)) for name in ("chosen_ended", "rejected_ended")}
    return {name: value for name, value in found.items() if value is not None}


def _unpaired(row: Row) -> list[Row]:
    good = label(row)
    return [{"prompt": as_prompt(column(row, "prompt")), "completion": assistant(as_answer(column(row, "completion"))), "label": good}]


def _completions(row: Row) -> list[Row]:
    texts = column(row, "completions")
    if not isinstance(texts, Sequence) or isinstance(texts, str) or len(texts) < 2:
        raise RowError("not_several_answers")
    ended = row.get("ended")
    if ended is not None and (not isinstance(ended, Sequence) or isinstance(ended, str) or len(ended) != len(texts)):
        raise RowError("not_a_boolean")
    known = [True] * len(texts) if ended is None else [flag(value) for value in ended]
    if None in known:
        raise RowError("not_a_boolean")
    answers = [as_answer(value) for value in texts]
    return [{"prompt": as_prompt(column(row, "prompt")), "completions": answers, "ended": known}]


def _joined(row: Row) -> str:
    """Prompt and answer as one passage of plain text."""
    turns = _demonstration(row)[0]["messages"]
    return "\n".join(turn["content"] for turn in turns)


PARSERS = {
    "demonstrations": _demonstration,
    "prompts": lambda row: [prompt_row(as_prompt(column(row, "prompt")), row)],
    "preferences": _preference,
    "unpaired": _unpaired,
    "rankings": lambda row: [dict(zip(("prompt", "completions", "scores"), comparison.scored(row), strict=True))],
    "completions": _completions,
    "texts": lambda row: [{"text": text(row["text"]) if row.get("text") is not None else _joined(row)}],
}
