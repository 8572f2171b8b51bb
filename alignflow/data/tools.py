"""Tools in a conversation: which keys of a turn they take in memory, as text for matching and judging, and in a table.

The tools that a conversation may use are the key `tools` of its first turn, so that whatever takes a conversation, or its beginning, has
them: a list of `{type: function, function: {name, description, parameters}}`. An assistant's turn may have `tool_calls`, a list of
`{type: function, function: {name, arguments}}` with `arguments` as an object, and `reasoning_content`, its thinking. A result is a
turn of the role `tool`. These are the names of transformers' chat templates; a table has `tools` as a column, as TRL's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

AS_JSON = "tool_calls"
TURN_FIELDS = ("tool_calls", "tool_call_id", "name", "reasoning_content")
"""Keys of a turn that a table with tools has beside role, content and weight."""
CONVERSATIONS = ("messages", "prompt", "chosen", "rejected", "completion")


def is_structured(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a conversation has more than texts: tools, calls of tools and their results, or an answer's thinking."""
    for message in messages:  # noqa: SIM110 - asked several times of every row, and a loop takes half the time
        if (
            message["role"] == "tool"
            or message.get("tools")
            or message.get("tool_calls")
            or message.get("reasoning_content")
        ):
            return True
    return False


def with_tools(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The conversation with the tools that it may use."""
    turns = [dict(message) for message in messages]
    return [{**turns[0], "tools": list(tools)}, *turns[1:]] if tools and turns else turns


def tools_of(messages: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    """The tools that a conversation may use; None for none."""
    return (messages[0].get("tools") or None) if messages else None


def without_tools(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns without the tools that they may use, which many conversations share: they say nothing about whether two are the same."""
    return [{name: value for name, value in message.items() if name != "tools"} for message in messages]


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, names of fields included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(name): mapped(item, change) for name, item in value.items()}
    return [mapped(item, change) for item in value] if isinstance(value, list | tuple) else value


def texts_in(value: Any) -> list[str]:
    """Every text in a value, names of fields included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [*value, *(text for item in value.values() for text in texts_in(item))]
    return [text for item in value for text in texts_in(item)] if isinstance(value, list | tuple) else []


def told(message: Mapping[str, Any]) -> str:
    """All that a turn says as one text: its thinking, its text, its calls and the tools that it brings as JSON."""
    if len(message) == 2 and "role" in message:  # as most turns are
        text: str = message["content"]
        return text
    parts = [
        message.get("reasoning_content"),
        message["content"],
        *(message.get("tool_calls") or ()),
        *(message.get("tools") or ()),
    ]
    return "\n".join(part if isinstance(part, str) else as_text(part) for part in parts if part)


def as_text(value: Any) -> str:
    """A value as JSON: characters as they are, names in their order."""
    return json.dumps(value, ensure_ascii=False)


def has_fields(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a conversation of some rows has more than texts."""
    for row in rows:
        for name in CONVERSATIONS:
            if (turns := row.get(name)) and is_structured(turns):
                return True
    return False


def to_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a table with tools has it: the tools as a column, calls and tools as JSON, since no type of a column holds two of them."""
    found = {"tools": None, **row}
    for name in CONVERSATIONS:
        if found.get(name):
            tools = tools_of(found[name])
            found["tools"] = as_text(tools) if tools else found["tools"]
            found[name] = [_to_fields(turn) for turn in found[name]]
    return found


def _to_fields(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: as_text(value) if name == AS_JSON and value is not None else value
        for name, value in turn.items()
        if name != "tools"
    }


def from_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row that `to_columns` was given; fields of a turn that are null are left out."""
    found = {name: value for name, value in row.items() if name != "tools"}
    for name in CONVERSATIONS:
        if found.get(name):
            found[name] = [_from_fields(turn) for turn in found[name]]
    if row.get("tools"):
        first = next(name for name in CONVERSATIONS if found.get(name))
        found[first] = with_tools(found[first], json.loads(row["tools"]))
    return found


def _from_fields(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) if name == AS_JSON else value for name, value in turn.items() if value is not None}
