"""Tools, calls of tools and their results, in the shapes that data sets have them in, as tools.py describes them.

OpenAI's and TRL's (`tools`, `tool_calls`, the older `functions` and `function_call`), ShareGPT's (a turn of `function_call` with JSON as
its text), and Anthropic's parts of a content (`tool_use`, `tool_result`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from alignflow.data.sources.base import Messages, RowError, is_blank
from alignflow.data.sources.soundness import unsound
from alignflow.data.tools import is_structured

CALL_ROLES = frozenset({"function_call", "tool_call", "tool_calls"})
"""Speakers whose text is a call, or a list of calls, as JSON."""
RESULT_ROLES = frozenset(
    {
        "tool",
        "function",
        "observation",
        "tool_response",
        "tool_responses",
        "tool_result",
        "tool_results",
        "tool_output",
        "function_response",
        "function_result",
        "function_output",
        "ipython",
    }
)
TOOL_COLUMNS = ("tools", "functions")
CALL_KEYS = ("tool_calls", "function_call")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


def row_tools(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that a row gives; none where it gives none.

    Raises:
        RowError: `bad_tools`: they are no list of functions with names, two of them have one name, or two columns have some.
    """
    given = [row[name] for name in TOOL_COLUMNS if name in row and not is_blank(row[name])]
    if not given:
        return []
    listed = parsed_json(given[0], "bad_tools")
    if len(given) > 1 or not isinstance(listed, list):
        raise RowError("bad_tools")
    found = [_tool(parsed_json(item, "bad_tools")) for item in listed]
    if len({tool["function"]["name"] for tool in found}) < len(found):
        raise RowError("bad_tools")
    return found


def _tool(item: Any) -> dict[str, Any]:
    """A tool with its function; data sets write the function alone as well, Anthropic's with its parameters as `input_schema`."""
    if isinstance(item, Mapping) and "function" not in item and "name" in item:
        given = {("parameters" if name == "input_schema" else name): value for name, value in item.items()}
        item = {
            "type": "function",
            "function": {name: value for name, value in given.items() if name != "type" or value != "function"},
        }
    function = item.get("function") if isinstance(item, Mapping) else None
    if (
        not isinstance(function, Mapping)
        or item.get("type") not in ("function", None)
        or not _is_name(function.get("name"))
    ):
        raise RowError("bad_tools")
    if isinstance(function.get("parameters"), str):
        function = {**function, "parameters": parsed_json(function["parameters"], "bad_tools")}
    if not isinstance(function.get("parameters", {}), Mapping | None):
        raise RowError("bad_tools")
    return {"type": "function", **item, "function": dict(function)}


def turn_calls(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls that an assistant's turn has beside its text.

    Raises:
        RowError: `bad_tool_calls`: one has no name, or the turn has calls under two keys; `bad_tool_arguments`: the arguments are no
            JSON object.
    """
    given = [turn[name] for name in CALL_KEYS if name in turn and not is_blank(turn[name])]
    if len(given) > 1:
        raise RowError("bad_tool_calls")
    return listed_calls(given[0]) if given else []


def listed_calls(value: Any) -> list[dict[str, Any]]:
    """A call, or a list of calls, as values or as JSON; raises RowError as `turn_calls` does."""
    value = parsed_json(value, "bad_tool_calls")
    calls = [_call(parsed_json(item, "bad_tool_calls")) for item in (value if isinstance(value, list) else [value])]
    if not calls:
        raise RowError("bad_tool_calls")
    return calls


def _call(item: Any) -> dict[str, Any]:
    function = item.get("function", item) if isinstance(item, Mapping) else None
    if (
        not isinstance(function, Mapping)
        or item.get("type", "function") not in ("function", "tool_use", None)
        or not _is_name(function.get("name"))
    ):
        raise RowError("bad_tool_calls")
    key = next((name for name in ("arguments", "parameters", "input") if name in function), None)
    arguments = (
        {}
        if key is None or function[key] is None or function[key] == ""
        else parsed_json(function[key], "bad_tool_arguments")
    )
    if not isinstance(arguments, Mapping):
        raise RowError("bad_tool_arguments")
    call = {"type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}}
    return call if is_blank(item.get("id")) else {"id": str(item["id"]), **call}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def parsed_json(value: Any, reason: str) -> Any:
    """A value, read as JSON where it is a text; raises RowError with `reason` where that is no JSON that a table can hold."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RowError(reason) from None
    if broken := unsound({"": found}):
        raise RowError(broken)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that has a name twice would lose a value in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def result(turn: Mapping[str, Any], content: str) -> dict[str, Any]:
    """The turn of a tool, with the name of the tool and the id of the call where they are given."""
    found: dict[str, Any] = {"role": "tool", "content": content}
    for name, keys in {"name": ("name",), "tool_call_id": ("tool_call_id", "tool_use_id")}.items():
        given = next((turn[key] for key in keys if not is_blank(turn.get(key))), None)
        if given is not None:
            found[name] = str(given)
    return found


def answered_calls(messages: Messages) -> Messages:
    """The conversation with the name of the called tool at each result; it may end with calls.

    Raises:
        RowError: `tool_result_without_call`: a result that belongs to no call of the turn before it; `tool_call_without_result`: calls that
            the conversation goes on from without the result of each. One result without name and id may be that of all.
    """
    if not is_structured(messages):
        return messages
    found: Messages = []
    while len(found) < len(messages):
        turn = messages[len(found)]
        if turn["role"] == "tool":
            raise RowError("tool_result_without_call")
        found.append(turn)
        if turn.get("tool_calls") and len(found) < len(messages):
            results = list(takewhile(lambda other: other["role"] == "tool", messages[len(found) :]))
            found += _named(turn["tool_calls"], results)
    return found


def _named(calls: Sequence[Mapping[str, Any]], results: Messages) -> Messages:
    if len(results) == 1 and len(calls) > 1 and results[0].keys().isdisjoint(("name", "tool_call_id")):
        return results
    found, still_open = [], list(calls)
    for turn in results:
        call = _called(still_open, turn)
        still_open = [other for other in still_open if other is not call]
        found.append({**turn, "name": call["function"]["name"]})
    if still_open:
        raise RowError("tool_call_without_result")
    return found


def _called(calls: Sequence[Mapping[str, Any]], turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """The call that a result belongs to: the one of its id and name, or the first that is open."""
    wanted, name = turn.get("tool_call_id"), turn.get("name")
    for call in calls:
        if wanted in (None, call.get("id", wanted)) and name in (None, call["function"]["name"]):
            return call
    raise RowError("tool_result_without_call")


def refuse_unknown_tools(messages: Messages, tools: Sequence[Mapping[str, Any]]) -> None:
    """Raise RowError (`unknown_tool`) for a call of a tool that the row does not give, where it gives some."""
    names = {tool["function"]["name"] for tool in tools}
    if names and any(
        call["function"]["name"] not in names for turn in messages for call in turn.get("tool_calls") or ()
    ):
        raise RowError("unknown_tool")


def reasoning_of(turn: Mapping[str, Any]) -> str:
    """The thinking that an assistant's turn has beside its text; raises RowError (`reasoning_not_used`) for one that is no one text."""
    given = {
        turn[name] if isinstance(turn[name], str) else None
        for name in REASONING_KEYS
        if name in turn and not is_blank(turn[name])
    }
    if len(given) > 1 or None in given:
        raise RowError("reasoning_not_used")
    return next(iter(given), "")  # type: ignore[return-value]
