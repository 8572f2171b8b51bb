"""What a chat template wrote: the text, the control tokens in it that come from a message, and where a turn stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from alignflow.data.chat_templates import Messages, write_conversation
from alignflow.data.token_ids import Span, controls_of
from alignflow.data.tools import mapped, texts_in


@dataclass(frozen=True)
class Written:
    """A template's text, and the places in it of control tokens that stand in a user's text."""

    text: str
    literal: tuple[Span, ...] = ()

    def before(self, place: int) -> Written:
        """The text up to a place."""
        return Written(self.text[:place], tuple(span for span in self.literal if span[1] <= place))

    def followed_by(self, text: str) -> Written:
        """The text, and more that a template writes."""
        return Written(self.text + text, self.literal)


@dataclass(frozen=True)
class Turn:
    """Where an assistant's turn stands in a text: from after its header, to the end of its content, to the end of the turn."""

    start: int
    content_end: int
    end: int


def free_mark(messages: Messages) -> str:
    """A character that no message has."""
    texts = "".join(text for message in messages for text in texts_in(message))
    return next(character for character in map(chr, range(0xE100, 0xF8FF)) if character not in texts)


def write_shielded(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> Written:
    """The template's text, and where a control token in it comes from a message: from a text, or from within a tool or a call."""
    special = controls_of(tokenizer).special
    if not any(special.search(text) for message in messages for text in texts_in(message)):
        return Written(write_conversation(tokenizer, messages, add_generation_prompt))
    mark = free_mark(messages)
    hidden: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        hidden.append(found.group())
        return f"{mark}{len(hidden) - 1}{mark}"

    def hide(value: str) -> str:
        return special.sub(numbered, value)

    shielded = [
        {name: value if name == "role" else mapped(value, hide) for name, value in message.items()}
        for message in messages
    ]
    pieces = write_conversation(tokenizer, shielded, add_generation_prompt).split(mark)
    text, spans = pieces[0], []
    for number, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        spans.append((len(text), len(text) + len(hidden[int(number)])))
        text += hidden[int(number)] + piece
    return Written(text, tuple(spans))


def shared(first: str, second: str) -> int:
    """Length of the longest common beginning, by halving: a comparison of whole texts is fast."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
