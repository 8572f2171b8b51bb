"""ShareGPT: `conversations` [{from, value}], and LLaMA-Factory's pairs: `chosen` and `rejected` {from, value} beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Messages, Row, RowError, conversation, demonstration, parse_with, preference, prompt_of, prompt_row

_MARKED_ROLE = re.compile(r"<\|[^|]*\|>")


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def turns(row: Row) -> Messages:
    """The conversation, with a `system` column before it; control tokens around a role's name are taken off."""
    raw = row["conversations"]
    if not isinstance(raw, list):
        raise RowError("not_text")
    cleaned = [{**turn, "from": _MARKED_ROLE.sub("", str(turn.get("from", "")))} for turn in raw if isinstance(turn, Mapping)]
    system = row.get("system")
    first = [{"from": "system", "value": system}] if isinstance(system, str) and system.strip() else []
    return conversation([*first, *cleaned], "from", "value")


def _preference(row: Row) -> list[Row]:
    answers = [_value(row.get(side)) for side in ("chosen", "rejected")]
    return [preference(prompt_of(turns(row)), *answers)]


def _value(turn: Any) -> str:
    value = turn.get("value", turn.get("content")) if isinstance(turn, Mapping) else turn
    if not isinstance(value, str):
        raise RowError("missing_column" if value is None else "not_text")
    if not value.strip():
        raise RowError("empty")
    return value


PARSERS = {
    "demonstrations": lambda row: [demonstration(turns(row))],
    "prompts": lambda row: [prompt_row(prompt_of(turns(row)), row)],
    "preferences": _preference,
}
