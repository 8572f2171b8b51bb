"""Calls of tools that are written into texts in the manner of Hermes: `<tool_call>{...}</tool_call>`, and `<tool_response>` around results.

A chat template writes its own marks around calls and results, so these are taken off; otherwise they would stand there twice, or, with a
template of another manner, teach a way to call tools that it does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.sources.base import Messages, RowError
from alignflow.data.sources.tool_calls import listed_calls

_CALL, _RESPONSE, _TOOLS = "<tool_call>", "<tool_response>", "<tools>"
_CALLS = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESPONSES = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def without_marks(messages: Messages) -> Messages:
    """The conversation with such calls as calls, and such results as results, each in a turn of its own.

    A user's turn that is results alone, and stands after a call, is the tool's. Whether each call has its result is not checked here.

    Raises:
        RowError: `tool_markup_in_text`: there is other text behind a call or beside a result, or a user's turn has a result after no call;
            `bad_tool_calls`, `bad_tool_arguments`.
    """
    found: Messages = []
    for turn in messages:
        if turn["role"] == "user" and _RESPONSE in turn["content"]:
            if not found or not found[-1].get("tool_calls"):
                raise RowError("tool_markup_in_text")
            turn = {"role": "tool", "content": turn["content"]}
        found += _without_marks(turn)
    return found


def is_call(text: str) -> bool:
    """Whether a text has such a call in it."""
    return _CALL in text


def with_bare_calls(messages: Messages, tools: Sequence[Mapping[str, Any]]) -> Messages:
    """The conversation with answers that are a list of calls and nothing else (xLAM's) as calls.

    Raises:
        RowError: `tool_markup_in_text`: such a turn has calls beside its text; `bad_tool_arguments`.
    """
    found: Messages = []
    for turn in messages:
        if turn["role"] == "assistant" and is_bare_call(turn["content"], tools):
            if "tool_calls" in turn:
                raise RowError("tool_markup_in_text")
            turn = {**turn, "content": "", "tool_calls": listed_calls(turn["content"])}
        found.append(turn)
    return found


def is_bare_call(text: str, tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a text is a list of calls of some of the tools, `[{"name": ..., "arguments": {...}}]`, and nothing else."""
    if not text.strip().startswith("["):
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    names = [tool["function"]["name"] for tool in tools]
    return bool(found) and all(
        isinstance(item, dict) and item.keys() == {"name", "arguments"} and item["name"] in names for item in found
    )


def _without_marks(turn: Mapping[str, Any]) -> Messages:
    content = turn["content"]
    if turn["role"] == "assistant" and _CALL in content:
        said, mark, rest = content.partition(_CALL)
        found = _inner(_CALLS, mark + rest)
        if "tool_calls" in turn:
            raise RowError("tool_markup_in_text")
        return [
            {**turn, "content": said.strip(), "tool_calls": [call for text in found for call in listed_calls(text)]}
        ]
    if turn["role"] == "tool" and _RESPONSE in content:
        return [{**turn, "content": text} for text in _inner(_RESPONSES, content)]
    return [dict(turn)]


def _inner(marked: re.Pattern[str], text: str) -> list[str]:
    if marked.sub("", text).strip():
        raise RowError("tool_markup_in_text")
    return [found.strip() for found in marked.findall(text)]


def tells_tools(messages: Messages) -> bool:
    """Whether the text of the system turn has the tools in it already, so that a template must not write them again."""
    return messages[0]["role"] == "system" and _TOOLS in messages[0]["content"]
