"""TRL's columns: prompt, completion, chosen, rejected, label, completions, scores; as text or as conversations."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.sources import comparison
from alignflow.data.sources.base import Messages, Row, RowError, column, flag, number, probability, text
from alignflow.data.sources.conversations import answered, demonstration, preference, prompt_of, prompt_turns, unpaired
from alignflow.data.sources.labels import label
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.tool_calls import row_tools
from alignflow.data.tools import is_structured


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


ASKED = ("prompt", "question")
"""Columns that hold the prompt."""


def _prompt(row: Row) -> Messages:
    return prompt_turns(row, column(row, *ASKED))


def _has_prompt(row: Row) -> bool:
    return any(row.get(name) is not None for name in ASKED)


def _asked(row: Row) -> Messages:
    """The prompt; where a side holds the whole conversation, what that is an answer to."""
    sides = [name for name in ("completion", "chosen") if isinstance(row.get(name), list) or not _has_prompt(row)]
    return prompt_of(
        _whole(row, *sides) if sides and any(row.get(name) is not None for name in sides) else _prompt(row)
    )


def _whole(row: Row, *names: str) -> Messages:
    """The conversation that ends with the answer in one of some columns; without a prompt, it is all there (TRL's implicit prompt)."""
    return answered(row, _prompt(row) if _has_prompt(row) else None, column(row, *names))


def _demonstration(row: Row) -> list[Row]:
    return [demonstration(_whole(row, "completion", "chosen"))]


def _preference(row: Row) -> list[Row]:
    if row.get("chosen") is None and any(row.get(name) is not None for name in comparison.ANSWERS):
        return [comparison.best_and_worst(*comparison.scored(row))]
    figures = {
        "soft_label": probability(row.get("soft_label")),
        "margin": number(row.get("margin")),
        "score_chosen": number(row.get("score_chosen")),
        "score_rejected": number(row.get("score_rejected")),
    }
    prompt = _prompt(row) if _has_prompt(row) else None
    chosen, rejected = (answered(row, prompt, column(row, side)) for side in ("chosen", "rejected"))
    return [{**preference(chosen, rejected, **figures), **_ends(row)}]


def _ends(row: Row) -> Row:
    found = {name: flag(row.get(name)) for name in ("chosen_ended", "rejected_ended")}
    return {name: value for name, value in found.items() if value is not None}


def _unpaired(row: Row) -> list[Row]:
    ended = flag(row.get("ended"))
    return [{**unpaired(_whole(row, "completion"), label(row)), **({} if ended is None else {"ended": ended})}]


def _completions(row: Row) -> list[Row]:
    prompt, texts, answers = comparison.several(row)
    return [{"prompt": prompt, "completions": texts, "ended": _each_ended(row, len(answers)) or [True] * len(answers)}]


def _rankings(row: Row) -> list[Row]:
    found: Row = dict(zip(("prompt", "completions", "scores"), comparison.scored(row), strict=True))
    ended = _each_ended(row, len(found["completions"]))
    return [found if ended is None else {**found, "ended": ended}]


def _each_ended(row: Row, answers: int) -> list[bool] | None:
    """Whether each of several answers ended by itself; None where the row does not say it."""
    ended = row.get("ended")
    if ended is None:
        return None
    if not isinstance(ended, Sequence) or isinstance(ended, str) or len(ended) != answers:
        raise RowError("not_a_boolean")
    flags = [known for value in ended if (known := flag(value)) is not None]
    if len(flags) < answers:
        raise RowError("not_a_boolean")
    return flags


def _joined(row: Row) -> str:
    """Prompt and answer as one passage of plain text."""
    turns = _demonstration(row)[0]["messages"]
    if is_structured(turns) or row_tools(row):
        raise RowError("tool_calls")
    return "\n".join(turn["content"] for turn in turns)


PARSERS = {
    "demonstrations": _demonstration,
    "prompts": lambda row: [prompt_row(_asked(row), row)],
    "preferences": _preference,
    "unpaired": _unpaired,
    "rankings": _rankings,
    "completions": _completions,
    "texts": lambda row: [{"text": text(row["text"]) if row.get("text") is not None else _joined(row)}],
}
