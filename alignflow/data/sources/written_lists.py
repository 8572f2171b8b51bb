"""Lists and conversations that a column holds in another form: as JSON text, or as one list for each key of its turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import RowError
from alignflow.data.sources.tool_calls import CALL_ROLES, RESULT_ROLES, parsed_json
from alignflow.data.sources.transcripts import ROLES, marked_role

LIST_COLUMNS = frozenset(
    {
        "messages",
        "conversations",
        "conversation",
        "turns",
        "history",
        "completions",
        "responses",
        "answers",
        "generations",
        "candidates",
        "outputs",
        "scores",
        "ranks",
        "ratings",
        "ended",
        "images",
        "tools",
        "tool_calls",
    }
)
"""Columns whose value is a list: only there is a cell such as `["a"]` the JSON of a list, and not a text in brackets."""
TURN_COLUMNS = frozenset({"prompt", "chosen", "rejected", "completion"})
"""Columns that hold a text or a conversation: a cell there is JSON only where that is a turn, or a list of turns."""
_CONVERSATIONS = TURN_COLUMNS | {"messages", "conversations", "conversation", "turns", "history"}
_ROLES, _CONTENTS = frozenset({"role", "from"}), frozenset({"content", "value", "tool_calls"})

_PYTHON = ("[{'role'", "[{'content'", "[{'from'", "[{'value'", "{'role'", "{'content'", "{'from'", "{'value'")
"""How turns begin that Python has written."""


def is_python(name: str, text: str) -> bool:
    """Whether a text in a column of lists or conversations is turns as Python writes them, which is what pandas makes of a list in a CSV."""
    return text.startswith(_PYTHON) and (name in LIST_COLUMNS or name in TURN_COLUMNS)


def unpacked(name: str, value: Any) -> Any:
    """The list or conversation that the column `name` holds in another form; any other value as it is.

    A text is read as JSON in LIST_COLUMNS, and in TURN_COLUMNS where it is a turn or a list of turns. `{"role": [...], "content": [...]}`,
    which `datasets` makes of a sequence of turns, becomes the list of these turns. A text whose JSON no table can hold stays a text.
    """
    if isinstance(value, str):
        return _from_text(name, value) if name in LIST_COLUMNS or name in TURN_COLUMNS else value
    if isinstance(value, Mapping) and name in _CONVERSATIONS:
        return _turns_of_columns(value)
    return value


def opened(value: Any) -> Any:
    """A value in which a path goes on: a text that is the JSON of a list or an object is read."""
    return _json(value) if isinstance(value, str) else value


def _from_text(name: str, text: str) -> Any:
    value = _json(text)
    if value is text or name in LIST_COLUMNS:
        return value
    if isinstance(value, Mapping):  # an answer may be an object with such keys: {"from": "EUR", "value": 3}
        return value if _is_turn(value) and _has_known_role(value) else text
    return value if value and all(_is_turn(turn) for turn in value) else text


def _json(text: str) -> Any:
    stripped = text.strip()
    if (stripped[:1], stripped[-1:]) not in (("[", "]"), ("{", "}")):
        return text
    try:
        return parsed_json(stripped, "not_json")
    except RowError:
        return text


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and bool(_ROLES & value.keys()) and bool(_CONTENTS & value.keys())


def _has_known_role(turn: Mapping[str, Any]) -> bool:
    name = next((turn[key] for key in ("role", "from") if key in turn), None)
    return isinstance(name, str) and marked_role(name) in ROLES.keys() | CALL_ROLES | RESULT_ROLES


def _turns_of_columns(value: Mapping[str, Any]) -> Any:
    columns = list(value.values())
    if not _is_turn(value) or not all(isinstance(column, list) for column in columns):
        return value
    if len({len(column) for column in columns}) != 1:
        return value
    return [
        {key: item for key, item in zip(value, items, strict=True) if item is not None}
        for items in zip(*columns, strict=True)
    ]
