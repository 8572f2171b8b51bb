"""What is remembered of a tokenizer's chat template: found once, and again where the template is set anew."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Memory:
    """What was found of one template.

    Attributes:
        template: The template.
        form: See tool_forms.
        left_out: See tool_forms: kinds of turns -> what is left out.
        ends: See tool_turns: kind of a turn of calls -> how it ends.
        is_blind: See template_shapes: whether the template is known not to look at the texts; None before anyone asked.
        shapes: See template_shapes: roles, and whether an answer is to follow -> what is written around the texts.
        sizes: See token_counts: what is known of conversations of some roles.
        after: See template_turns: roles -> the text that the template writes after each turn's content.
        opening: See template_turns, as all that follow: the ids that stand before every text.
        blanks: Blanks that an answer may begin and end with.
        prompt: The generation prompt.
        headers: Whether there is a system turn -> the header of an answer, and how many characters it has.
    """

    template: Any
    form: Any = None
    left_out: dict[Any, str] = field(default_factory=dict)
    ends: dict[Any, tuple[str, str]] = field(default_factory=dict)
    is_blind: bool | None = None
    shapes: dict[Any, Any] = field(default_factory=dict)
    sizes: dict[Any, Any] = field(default_factory=dict)
    after: dict[tuple[str, ...], list[str | None]] = field(default_factory=dict)
    opening: list[int] | None = None
    blanks: tuple[str, str] | None = None
    prompt: str | None = None
    headers: dict[bool, tuple[str, int]] = field(default_factory=dict)


_REMEMBERED: weakref.WeakKeyDictionary[Any, Memory] = weakref.WeakKeyDictionary()


def remembered(tokenizer: Any) -> Memory:
    """The memory of the tokenizer's present template."""
    found = _REMEMBERED.get(tokenizer)
    if found is None or found.template is not tokenizer.chat_template:
        found = _REMEMBERED[tokenizer] = Memory(tokenizer.chat_template)
    return found
