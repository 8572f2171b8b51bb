"""In what form a chat template takes calls of tools and thinking, and what of a conversation it leaves out.

Templates differ: most write the arguments of a call themselves, as JSON or as XML, and need an object; some (DeepSeek's) put a text together and
need JSON. Some write a call only where there is no text at all beside it. Thinking has two names. What a template does is seen in what it
writes of a short conversation of marks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.template_memory import remembered
from alignflow.data.tools import as_text, is_structured, tools_of

Message = Mapping[str, Any]

TOOLS, CALLS, RESULTS, TEXT, REASONING, OTHER = (
    "tools_not_in_template",
    "tool_calls_not_in_template",
    "tool_results_not_in_template",
    "text_beside_calls_not_in_template",
    "reasoning_not_in_template",
    "refused_by_template",
)
LEFT_OUT: Mapping[str, str] = {
    TOOLS: "it leaves the tools out",
    CALLS: "it leaves calls of tools out",
    RESULTS: "it leaves the results of tools out",
    TEXT: "it leaves the text beside calls of tools out",
    REASONING: "it leaves an answer's reasoning_content out",
    OTHER: "it refuses them",
}
"""Why a row is dropped -> what the chat template does, in words."""
_MARKS = ("\ue0f0", "\ue0f1")  # private-use characters: no template has them
_ID = "call{:05d}"  # Mistral's templates take ids of nine letters and digits alone


@dataclass(frozen=True)
class Form:
    """How a template takes what is more than text.

    Attributes:
        arguments_are_text: The arguments of a call are JSON, not an object.
        no_text_is_none: A turn of calls without text has None as its content, not an empty text.
        reasoning: The key of an answer's thinking; empty where the template writes it under none.
    """

    arguments_are_text: bool = False
    no_text_is_none: bool = False
    reasoning: str = "reasoning_content"


def form_of(tokenizer: Any) -> Form:
    """The first form in which the tokenizer's template writes a call and its result as they are; the common one where it writes none."""
    known = remembered(tokenizer)
    if known.form is None:
        choices = itertools.product((False, True), (False, True))
        found = next(
            (Form(as_json, none) for none, as_json in choices if _writes_calls(tokenizer, Form(as_json, none))), Form()
        )
        names = ("reasoning_content", "thinking", "reasoning")
        reasoning = next((name for name in names if _writes_reasoning(tokenizer, name)), "")
        known.form = Form(found.arguments_are_text, found.no_text_is_none, reasoning)
    form: Form = known.form
    return form


def _writes_calls(tokenizer: Any, form: Form) -> bool:
    name, key, value, said = (f"{_MARKS[0]}{number}{_MARKS[1]}" for number in range(4))
    call = {"id": _ID.format(0), "type": "function", "function": {"name": name, "arguments": {key: value}}}
    turns: list[Message] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": said, "name": name, "tool_call_id": _ID.format(0)},
    ]
    text = _text_or_none(tokenizer, shaped(turns, form), [sample_tool(name, key)])
    return text is not None and name in text and _has_arguments(text, key, value)


def _has_arguments(text: str, key: str, value: str) -> bool:
    """Whether the text has the arguments {key: value}, neither as Python writes them nor as JSON within JSON."""
    return key in text and value in text and repr({key: value}) not in text and f'\\"{key}' not in text


def _writes_reasoning(tokenizer: Any, name: str) -> bool:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x", name: _MARKS[0]}]
    return _MARKS[0] in (_text_or_none(tokenizer, turns, None) or "")


def _text_or_none(tokenizer: Any, turns: Sequence[Message], tools: Any) -> str | None:
    try:
        text: str = tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)
        return text
    except Exception:  # noqa: BLE001 (whatever a template raises)
        return None


def sample_tool(name: str, field: str = "x", said: str = "x") -> dict[str, Any]:
    """A tool with all that templates ask for: a description, and a parameter with its type."""
    parameters = {"type": "object", "properties": {field: {"type": "string", "description": said}}, "required": [field]}
    return {"type": "function", "function": {"name": name, "description": said, "parameters": parameters}}


def shaped(messages: Sequence[Message], form: Form) -> list[dict[str, Any]]:
    """The turns in the form that a template takes, without what is not for it."""
    return [_shaped(message, form) for message in messages]


def _shaped(message: Message, form: Form) -> dict[str, Any]:
    turn = {
        name: value
        for name, value in message.items()
        if value is not None and name not in ("weight", "tools", "reasoning_content")
    }
    if message.get("reasoning_content") and form.reasoning:
        turn[form.reasoning] = message["reasoning_content"]
    if message.get("tool_calls"):
        if form.arguments_are_text:
            turn["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": as_text(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ]
        turn["content"] = message["content"] or (None if form.no_text_is_none else "")
    return turn


def left_out(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The reason of LEFT_OUT for which the template cannot write a conversation; empty where it writes all of it.

    Found once for each sequence of kinds of turns. An earlier answer's thinking may be left out, as templates do on purpose.
    """
    if not is_structured(messages):
        return ""
    known, kinds = remembered(tokenizer).left_out, _kinds(messages)
    if kinds not in known:
        known[kinds] = _left_out(tokenizer, messages)
    return known[kinds]


def _kinds(messages: Sequence[Message]) -> tuple[Any, ...]:
    return (
        len(tools_of(messages) or ()),
        *(
            (
                turn["role"],
                bool(turn["content"]),
                bool(turn.get("reasoning_content")),
                "name" in turn,
                "tool_call_id" in turn,
                tuple("id" in call for call in turn.get("tool_calls") or ()),
            )
            for turn in messages
        ),
    )


def _left_out(tokenizer: Any, messages: Sequence[Message]) -> str:
    numbers = itertools.count()
    wanted: dict[str, str] = {}

    def mark(reason: str) -> str:
        found = f"{_MARKS[0]}{next(numbers)}{_MARKS[1]}"
        wanted[found] = reason
        return found

    tools = [sample_tool(mark(TOOLS), mark(TOOLS)) for _ in tools_of(messages) or ()] or None
    form = form_of(tokenizer)
    turns = [_marked(turn, index == len(messages) - 1, mark) for index, turn in enumerate(messages)]
    text = _text_or_none(tokenizer, shaped(turns, form), tools)
    if text is None:
        knows = _writes_calls(tokenizer, form) or not any(turn["role"] == "tool" for turn in turns)
        return OTHER if knows else TOOLS if tools else RESULTS
    if any(turn.get("reasoning_content") for turn in messages) and not form.reasoning:
        return REASONING
    missing = {reason for found, reason in wanted.items() if found not in text}
    written = [call["function"]["arguments"] for turn in turns for call in turn.get("tool_calls") or ()]
    if form.arguments_are_text is False and any(repr(arguments) in text for arguments in written):
        missing.add(CALLS)
    return next((reason for reason in LEFT_OUT if reason in missing), "")


def _marked(turn: Message, is_last: bool, mark: Any) -> dict[str, Any]:
    """A turn with a mark in the place of each text that the template must write."""
    content = {"tool": RESULTS, "assistant": TEXT if turn.get("tool_calls") else OTHER}.get(turn["role"], OTHER)
    found: dict[str, Any] = {"role": turn["role"], "content": mark(content) if turn["content"] else ""}
    if turn.get("reasoning_content"):
        found["reasoning_content"] = mark(REASONING) if is_last else "x"
    for name in ("name", "tool_call_id"):
        if name in turn:
            found[name] = _ID.format(0)
    if turn.get("tool_calls"):
        found["tool_calls"] = [
            {
                **({"id": _ID.format(number)} if "id" in call else {}),
                "type": "function",
                "function": {"name": mark(CALLS), "arguments": {mark(CALLS): mark(CALLS)}},
            }
            for number, call in enumerate(turn["tool_calls"])
        ]
    return found
