"""Checks every row has to pass: readable text, finite numbers, limited nesting."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alignflow.data.sources.base import BrokenLine, Row, RowError
from alignflow.data.sources.traces import refuse_traces, refuse_unfinished
from alignflow.data.tools import TURN_FIELDS, is_structured, texts_in

MAX_DEPTH = 64
MOST_BYTES = 16 * 2**20
"""Of one line of JSON, or of one text of a row (characters): no model reads more at once, and what follows takes many times its memory."""
TOO_LARGE = "over_16_MiB"


def checked(row: Any, number: int) -> Row | BrokenLine:
    """A raw row as it is, or as the broken line `number` where it is none, or where no table could hold it."""
    if not isinstance(row, dict):
        return BrokenLine(number, "not_a_row")
    reason = unsound(row)
    return BrokenLine(number, reason) if reason else row


def bounded(rows: Iterable[Row | BrokenLine]) -> Iterator[Row | BrokenLine]:
    """The rows, with a broken line in the place of each that has a text over the limit."""
    for number, row in enumerate(rows, 1):
        yield BrokenLine(number, TOO_LARGE) if not isinstance(row, BrokenLine) and _too_large(row) else row


def _too_large(value: Any) -> bool:
    """Whether a row, or a value inside of one, has a text anywhere that is over the limit."""
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, str | bytes):
            if len(item) > MOST_BYTES:
                return True
        elif isinstance(item, dict | list) and _too_large(item):
            return True
    return False


def without_nulls(row: Any) -> Any:
    """A row of a typed table without the null fields of its structs, at any depth; its own columns stay.

    A column of structs has one type, so that a table of two tools with different `properties` gives each of them those of the
    other, as nulls. A null field and a missing one are the same there (TRL's `remove_none_values` does this, too).
    """
    if isinstance(row, dict):
        return {name: _filled(value) for name, value in row.items()}
    return row


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item) for name, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, list) else value


def unsound(row: Mapping[str, Any]) -> str:
    """Why no table can hold a raw row: lone_surrogate, too_deep; empty where one can. Cheap for the common row of short fields."""
    if _is_plain(row, 0):
        return ""
    queue: list[tuple[Any, int]] = [(row, 0)]
    while queue:
        value, depth = queue.pop()
        if isinstance(value, str):
            if not _is_unicode(value):
                return "lone_surrogate"
        elif isinstance(value, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                return "too_deep"
            queue.extend((item, depth + 1) for item in (value.values() if isinstance(value, Mapping) else value))
            if isinstance(value, Mapping):
                queue.extend((name, depth + 1) for name in value)
    return ""


def _is_plain(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], depth: int) -> bool:
    """Whether all texts in a value can be encoded, and it is not too deep; fast, and without the reason."""
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) and name.isascii() for name in value):
            return False
        value = list(value.values())
    for item in value:
        if isinstance(item, str):
            if not item.isascii() and not _is_unicode(item):
                return False
        elif isinstance(item, Mapping | list | tuple) and (depth >= MAX_DEPTH or not _is_plain(item, depth + 1)):
            return False
    return True


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_row(row: Mapping[str, Any]) -> None:
    """Check a row of one of our tables: what every later stage takes for granted.

    Raises:
        RowError: a text is empty to the eye or has a NUL, a number is not finite, a probability is over 1, a flag is no
            boolean, `instructions` are no checks, tools or calls of them are no JSON (`bad_tools`, `bad_tool_arguments`), or a text is
            more than text (see `refuse_traces`) or no whole answer (see `refuse_unfinished`).
    """
    for name in ("messages", "prompt", "chosen", "rejected", "completion"):
        for turn in row.get(name) or ():
            if turn["role"] != "tool" and not turn.get("tool_calls") or turn["content"]:
                _check_text(turn["content"])
            if is_structured([turn]):
                _check_fields(turn)
            if turn["role"] != "tool":
                refuse_traces(turn["role"], turn["content"])
            if name == "messages" and turn["role"] == "assistant" and not {"tool_calls", "weight"} & turn.keys():
                refuse_unfinished(turn["content"])
    if row.keys() <= {"messages"}:
        return
    for text in row.get("completions") or ():
        _check_text(text)
        refuse_traces("assistant", text)
    if "text" in row:
        _check_text(row["text"])
    numbers = [row.get(name) for name in ("soft_label", "margin", "score_chosen", "score_rejected")]
    for number in (*(number for number in numbers if number is not None), *(row.get("scores") or ())):
        if not math.isfinite(number):
            raise RowError("not_finite")
    if row.get("soft_label") is not None and not 0 <= row["soft_label"] <= 1:
        raise RowError("no_probability")
    ended = row.get("ended")  # a list for several answers, a flag for one
    if ended is not None and not all(
        isinstance(flag, bool) for flag in (ended if isinstance(ended, list) else [ended])
    ):
        raise RowError("not_a_boolean")
    if row.get("instructions") is not None:
        _check_instructions(row["instructions"])


def _check_text(text: str) -> None:
    if "\0" in text:
        raise RowError("nul_character")
    if not ("!" <= text[:1] <= "~" or any(_is_seen(character) for character in text)):
        raise RowError("empty")


def _check_fields(turn: Mapping[str, Any]) -> None:
    for name, reason in (("tools", "bad_tools"), ("tool_calls", "bad_tool_arguments")):
        if not _is_json(turn.get(name)):
            raise RowError(reason)
    if any("\0" in text for name in (*TURN_FIELDS, "tools") for text in texts_in(turn.get(name))):
        raise RowError("nul_character")
    if "reasoning_content" in turn:
        _check_text(turn["reasoning_content"])


def _is_json(value: Any) -> bool:
    """Whether JSON can hold a value as it is: a typed file may have bytes, dates, NaN, and maps (tuples), too."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_json(item) for name, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _is_seen(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def _check_instructions(instructions: Any) -> None:
    """Verifiable instructions are the JSON of a list of `{id, kwargs}`."""
    try:
        checks = json.loads(instructions) if isinstance(instructions, str) else None
    except (ValueError, RecursionError):
        checks = None
    if not isinstance(checks, list) or not all(_is_check(check) for check in checks):
        raise RowError("bad_instructions")


def _is_check(check: Any) -> bool:
    return isinstance(check, dict) and isinstance(check.get("id"), str) and isinstance(check.get("kwargs", {}), dict)
