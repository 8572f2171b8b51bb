"""What the formats share: why a row cannot be used, and how a conversation is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.records import assistant, user

Row = dict[str, Any]
Messages = list[dict[str, str]]
ParserTable = Mapping[str, Callable[[Row], list[Row]]]

_ROUNDING = 1e-6
"""By how much a probability may be outside of 0 to 1: sums in fp32 are this exact."""
ROLES: Mapping[str, str] = {
    "user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant", "bot": "assistant",
    "model": "assistant", "chatbot": "assistant", "system": "system",
}  # fmt: skip


@dataclass(frozen=True)
class BrokenLine:
    """A line that is no row: where it stands (from 1) and why."""

    number: int
    reason: str


class RowError(Exception):
    """A row that cannot be used; `reason` is one of a few words that are counted."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


def parse_with(table: ParserTable, row: Row, kind: str) -> list[Row]:
    """Run the parser of `kind`; a format that has none drops the row, counted."""
    if kind not in table:
        raise RowError("not_of_this_kind")
    return table[kind](row)


def column(row: Row, *names: str) -> Any:
    """The first of some columns that the row has; raises RowError for none."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise RowError("missing_column")


def text(value: Any) -> str:
    """A value that must be text with something in it."""
    if not isinstance(value, str):
        raise RowError("not_text")
    if not value.strip():
        raise RowError("empty")
    return value


def conversation(turns: Any, role_key: str = "role", text_key: str = "content") -> Messages:
    """Turns as `{role, content}`, checked: known roles, a system turn only first, then user and assistant in turn."""
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise RowError("empty" if not turns else "not_text")
    messages = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise RowError("not_text")
        role = ROLES.get(str(turn.get(role_key, "")).strip().lower())
        if role is None:
            raise RowError("unknown_role")
        messages.append({"role": role, "content": text(turn.get(text_key))})
    spoken = messages[1:] if messages[0]["role"] == "system" else messages
    if [message["role"] for message in spoken] != [("user", "assistant")[index % 2] for index in range(len(spoken))]:
        raise RowError("wrong_role_order")
    return messages


def demonstration(messages: Messages) -> Row:
    """A row of demonstrations: it must end with the assistant."""
    if not messages or messages[-1]["role"] != "assistant":
        raise RowError("no_answer")
    return {"messages": messages}


def prompt_of(messages: Messages) -> Messages:
    """The conversation up to the last user turn."""
    prompt = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError("no_prompt")
    return prompt


def as_prompt(value: Any) -> Messages:
    """A prompt that is a text or a conversation."""
    return user(text(value)) if isinstance(value, str) else prompt_of(conversation(value))


def as_answer(value: Any) -> str:
    """An answer that is a text, or a conversation whose last turn is the assistant's."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value or not isinstance(value[-1], Mapping):
            raise RowError("not_text")
        value = value[-1].get("content")
    return text(value)


def number(value: Any) -> float | None:
    """A figure of a row; None where it has none.

    A table of text (CSV) writes numbers as text and an empty cell for a missing one; pandas and Parquet write NaN for that.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowError("not_a_number")
    try:
        found = float(value)
    except OverflowError:
        raise RowError("not_finite") from None
    except ValueError:
        raise RowError("not_a_number") from None
    if math.isinf(found):
        raise RowError("not_finite")
    return None if math.isnan(found) else found


def probability(value: Any) -> float | None:
    """A figure from 0 to 1; None where the row has none. One that is outside by rounding alone is moved to the bound."""
    found = number(value)
    if found is None:
        return None
    clipped = min(1.0, max(0.0, found))
    if abs(found - clipped) > _ROUNDING:
        raise RowError("no_probability")
    return clipped


def flag(value: Any) -> bool | None:
    """Yes or no; None where the row has neither. A table may write it as 0 or 1, and one of text (CSV) as a word, too."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    try:
        found = number(value)
    except RowError:
        raise RowError("not_a_boolean") from None
    if found not in (None, 0.0, 1.0):
        raise RowError("not_a_boolean")
    return None if found is None else bool(found)


def label(row: Row) -> bool:
    """Whether the row's one answer is a good one; raises RowError where the row does not say."""
    try:
        found = flag(row.get("label"))
    except RowError:
        found = None
    if found is None:
        raise RowError("no_label")
    return found


def preference(prompt: Messages, chosen: str, rejected: str, **figures: float | None) -> Row:
    """A row of preferences; two answers that are equal teach nothing."""
    if chosen.strip() == rejected.strip():
        raise RowError("identical_pair")
    return {"prompt": prompt, "chosen": assistant(chosen), "rejected": assistant(rejected), **figures}


def prompt_row(prompt: Messages, row: Row) -> Row:
    """A row of prompts, with the verifiable instructions that IFEval's columns name."""
    names = _listed(row.get("instruction_id_list"))
    if not names:
        checks = row.get("instructions")
        if isinstance(checks, list):  # a cell of CSV whose JSON was read, or a row that holds the checks themselves
            checks = json.dumps(checks, ensure_ascii=False, sort_keys=True)
        return {"prompt": prompt, "instructions": None if checks == "" else checks}
    arguments = _listed(row.get("kwargs"))
    arguments = [{}] * len(names) if arguments is None else arguments
    if not (isinstance(names, list | tuple) and isinstance(arguments, list | tuple) and len(arguments) == len(names)):
        raise RowError("bad_instructions")
    checks = [{"id": name, "kwargs": _given(given)} for name, given in zip(names, arguments, strict=True)]
    return {"prompt": prompt, "instructions": json.dumps(checks, ensure_ascii=False, sort_keys=True)}


def _listed(value: Any) -> Any:
    """A value of a column of IFEval's; a table may hold it as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise RowError("bad_instructions") from None


def _given(arguments: Any) -> dict[str, Any]:
    arguments = _listed(arguments)
    if arguments is not None and not isinstance(arguments, Mapping):
        raise RowError("bad_instructions")
    return {name: value for name, value in (arguments or {}).items() if value is not None}
