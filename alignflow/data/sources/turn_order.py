"""The order of turns: a system turn or none, then user and assistant in turn, with calls of tools and their results between them."""

from __future__ import annotations

from itertools import pairwise

from alignflow.data.sources.base import Messages, RowError
from alignflow.data.sources.tool_calls import answered_calls

_NEXT = {
    "user": ("assistant", "call"),
    "assistant": ("user",),
    "call": ("tool",),
    "tool": ("tool", "assistant", "call"),
}
"""What may follow a turn: `call` is an assistant's turn with calls of tools."""


def ordered(messages: Messages) -> Messages:
    """The conversation as it is; raises RowError unless a system turn stands first alone, then user and assistant in turn.

    An assistant's turn with calls of tools is followed by their results, and these by the assistant again (see `answered_calls`).
    """
    first = 1 if messages and messages[0]["role"] == "system" else 0
    spoken = answered_calls(messages[first:])
    kinds = ["call" if turn.get("tool_calls") else turn["role"] for turn in spoken]
    if kinds[:1] != ["user"] or any(after not in _NEXT.get(kind, ()) for kind, after in pairwise(kinds)):
        raise RowError("wrong_role_order")
    return [*messages[:first], *spoken]
