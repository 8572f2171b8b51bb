"""Rows that the model's chat template does not take: told apart, or their system turn becomes part of the first user turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.records import assistant, row_id
from alignflow.data.row_texts import Row
from alignflow.data.template_checks import refusal
from alignflow.data.template_turns import follows
from alignflow.data.tool_forms import OTHER
from alignflow.data.tools import is_structured, tools_of, with_tools

PARTS = ("messages", "prompt")
ANSWERS = ("messages", "chosen", "rejected", "completion", "completions")


def fit_to_template(rows: Sequence[Row], kind: str, tokenizer: Any, config: PrepareConfig) -> tuple[list[str], int]:
    """Why the template does not take each row, as a reason of tool_forms.LEFT_OUT, empty where it does; with `system: merge` the system turn
    of others is merged before. Returns how many were, too.

    A row keeps its id unless it is changed. Of rows with answers only the roles are looked at here: whether the template writes them shows
    when they are encoded.
    """
    merged = 0
    for row in rows if config.system == "merge" else ():
        if _begins_with_system(row) and refusal(tokenizer, _conversation(row)):
            part = next(name for name in PARTS if name in row)
            row[part] = merge_system(row[part])
            row["id"] = row_id(kind, {name: value for name, value in row.items() if name not in ("id", "source")})
            merged += 1
    return [_refusal(row, tokenizer) for row in rows], merged


def merge_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with its system turn at the head of the first user turn, a blank line between."""
    system, first, *rest = messages
    return with_tools([{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest], tools_of(messages))


def _begins_with_system(row: Row) -> bool:
    turns: list[dict[str, Any]] = next((row[name] for name in PARTS if name in row), [])
    return len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user"


def _conversation(row: Row) -> list[dict[str, Any]]:
    return row["messages"] if "messages" in row else [*row["prompt"], *assistant("x")]


def _refusal(row: Row, tokenizer: Any) -> str:
    if "text" in row:
        return ""
    conversation = _conversation(row)
    if row.keys().isdisjoint(ANSWERS) or is_structured(conversation):
        return refusal(tokenizer, conversation)
    return "" if follows(tokenizer, tuple(str(message["role"]) for message in conversation)) else OTHER
