"""Rows that the model's chat template does not take: dropped and counted, or their system turn becomes part of the first user turn."""

from __future__ import annotations

from typing import Any

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.filters import drop
from alignflow.data.parsing import Kept, Row
from alignflow.data.records import assistant, row_id
from alignflow.data.template_checks import refusal
from alignflow.data.tools import tools_of, with_tools

PARTS = ("messages", "prompt")


def fit_to_template(kept: Kept, kind: str, tokenizer: Any, config: PrepareConfig) -> int:
    """Drop the rows that the template refuses; with `system: merge` their system turn is merged before. Returns how many were merged.

    A row keeps its id unless it is changed.
    """
    merged = 0
    for row in kept.rows if config.system == "merge" else ():
        if _begins_with_system(row) and _refusal(row, tokenizer):
            part = next(name for name in PARTS if name in row)
            row[part] = merge_system(row[part])
            row["id"] = row_id(kind, {name: value for name, value in row.items() if name not in ("id", "source")})
            merged += 1
    reasons = {id(row): _refusal(row, tokenizer) for row in kept.rows}
    for reason in sorted({*reasons.values()} - {""}):
        drop(kept, reason, lambda row, reason=reason: reasons[id(row)] == reason)
    return merged


def merge_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with its system turn at the head of the first user turn, a blank line between."""
    system, first, *rest = messages
    return with_tools([{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest], tools_of(messages))


def _begins_with_system(row: Row) -> bool:
    turns = next((row[name] for name in PARTS if name in row), [])
    return len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user"


def _refusal(row: Row, tokenizer: Any) -> str:
    """Why the template does not take a row; empty where it does."""
    if "text" in row:
        return ""
    return refusal(tokenizer, row["messages"] if "messages" in row else [*row["prompt"], *assistant("x")])
