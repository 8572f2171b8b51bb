"""One turn of a conversation: from what any format has of it to `{role, content}`, with calls of tools, their results and thinking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.sources.base import Messages, RowError, is_blank, text
from alignflow.data.sources.hermes import without_marks
from alignflow.data.sources.labels import label_or_none
from alignflow.data.sources.meanings import PART_REASONS, STRUCTURED_REASONS, TURN_REASONS, refuse_meanings, trained
from alignflow.data.sources.tool_calls import CALL_ROLES, RESULT_ROLES, listed_calls, reasoning_of, result, turn_calls
from alignflow.data.sources.transcripts import ROLES, marked_role

_RESULT_REASONS = {name: reason for name, reason in STRUCTURED_REASONS.items() if name != "tool_call_id"}
_ANSWER_REASONS = {"tool_call_id": STRUCTURED_REASONS["tool_call_id"]}


_PLAIN, _PLAIN_ROLES = frozenset({"role", "content"}), ("user", "assistant", "system")
_PART_KEYS = frozenset({"type", "text", "cache_control"})
"""Keys of a part of a content that is a text: `cache_control` (Anthropic's) says nothing of what is said."""


def turn_list(values: Any) -> Messages:
    """Turns as they stand, each checked by itself; `role` or ShareGPT's `from`, `content` or `value`. An empty system turn is none.

    Raises:
        RowError: no turns, a role that is not known, a content that is no text, or a key that changes the meaning.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise RowError("empty" if is_blank(values) else "not_text")
    if not all(isinstance(value, dict) for value in values):
        raise RowError("not_text")
    turns = [turn for value in values if not _is_empty_system(value) for turn in raw_turns(value)]
    if not turns:
        raise RowError("empty")
    return without_marks(turns) if any(turn["role"] == "tool" for turn in turns) else turns


def _is_empty_system(value: Mapping[str, Any]) -> bool:
    name = value.get("role", value.get("from"))
    if name in ("user", "assistant", "human", "gpt"):
        return False
    said = [value[key] for key in ("content", "value", "text") if key in value]
    return (
        isinstance(name, str)
        and ROLES.get(marked_role(name)) == "system"
        and all(not item or isinstance(item, str) and item.isspace() for item in said)
    )


def raw_turns(value: Mapping[str, Any], otherwise: str = "") -> Messages:
    """The turn that a value is; with Anthropic's parts also the results of tools that stand in a user's turn, as turns of their own."""
    if (
        value.keys() == _PLAIN and value["role"] in _PLAIN_ROLES and isinstance(value["content"], str)
    ):  # as most turns are
        return [{"role": value["role"], "content": text(value["content"])}]
    name = next((value[key] for key in ("role", "from") if value.get(key) is not None), otherwise)
    name = marked_role(name) if isinstance(name, str) else ""
    refuse_meanings(value, TURN_REASONS)
    if label_or_none(value) is False:
        raise RowError("labelled_bad")
    content = next((value[key] for key in ("content", "value", "text") if value.get(key) is not None), None)
    role = "assistant" if name in CALL_ROLES else "tool" if name in RESULT_ROLES else ROLES.get(name)
    if role is None:
        raise RowError("unknown_role")
    is_learnt = trained(value, is_answer=role == "assistant")
    if role == "assistant":
        turn = (
            {"role": "assistant", "content": "", "tool_calls": listed_calls(content)}
            if name in CALL_ROLES
            else _answer(value, content)
        )
        return [turn if is_learnt else {**turn, "weight": 0}]
    refuse_meanings(value, _RESULT_REASONS if role == "tool" else STRUCTURED_REASONS)
    if role == "tool":
        return [result(value, _content(content, is_blank_allowed=True))]
    results, rest = _divided(content) if role == "user" else ([], content)
    return [*results, *([{"role": role, "content": _content(rest)}] if rest or not results else [])]


def _answer(value: Mapping[str, Any], content: Any) -> dict[str, Any]:
    """An assistant's turn with the calls and the thinking that stand beside its text, or are parts of its content."""
    refuse_meanings(value, _ANSWER_REASONS)
    calls, reasoning = turn_calls(value), reasoning_of(value)
    if isinstance(content, list):
        thought, content, used = _parts_of(content)
        if (used and calls) or (thought and reasoning):
            raise RowError("unknown_content")
        calls, reasoning = (
            calls or (listed_calls(used) if used else []),
            reasoning or reasoning_of({"thinking": thought}),
        )
    turn = {"role": "assistant", "content": _content(content, is_blank_allowed=bool(calls))}
    return {
        **turn,
        **({"reasoning_content": reasoning} if reasoning else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _parts_of(content: list[Any]) -> tuple[Any, list[Any], list[Any]]:
    """Anthropic's parts of an answer: thinking or none, then text, then calls; raises RowError where they stand otherwise."""
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in content]
    first = 1 if kinds[:1] == ["thinking"] else 0
    last = next((index for index, kind in enumerate(kinds) if kind == "tool_use"), len(kinds))
    if "thinking" in kinds[first:] or any(kind != "tool_use" for kind in kinds[last:]):
        raise RowError("unknown_content")
    return content[0].get("thinking") if first else None, content[first:last], content[last:]


def _divided(content: Any) -> tuple[Messages, Any]:
    """The results of tools that a user's content begins with (Anthropic's parts), and the rest of it."""
    if not isinstance(content, list):
        return [], content
    given = [part for part in content if isinstance(part, Mapping) and part.get("type") == "tool_result"]
    if any(not is_blank(part.get("is_error")) for part in given):
        raise RowError("tool_error_not_used")
    results = [
        result(part, _content(part.get("content"), is_blank_allowed=True))
        for part in content[: len(given)]
        if part in given
    ]
    return results, content[len(results) :]


def _content(value: Any, *, is_blank_allowed: bool = False) -> str:
    """A text, or the joined texts of a list of parts; raises RowError for a part that is no text."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        value = "".join(_part(part) for part in value)
    if is_blank_allowed and (value is None or isinstance(value, str) and not value.strip()):
        return ""
    return text(value)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise RowError("not_text")
    kind: Any = part.get("type")
    if kind in PART_REASONS:
        raise RowError(PART_REASONS[kind])
    text = part.get("text")
    if kind not in (None, "text", "input_text", "output_text") or not isinstance(text, str):
        raise RowError("unknown_content")
    refuse_meanings(part, {"image": "images", "image_url": "images", "video": "images", "audio": "audio"})
    if any(name not in _PART_KEYS and not is_blank(value) for name, value in part.items()):
        raise RowError("unknown_content")  # what the other keys say would be lost
    return text
