"""Many conversations to token ids at once, with the results of the functions of `rendering` for one.

None stands where the chat template refuses a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from alignflow.data.chat_templates import Messages
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.rendering import EncodedConversation, EncodedTurn, encode_prompt, encode_turn, encode_turns

Found = TypeVar("Found")
Answer = tuple[Messages, str, bool]
"""A conversation up to a user's turn, the answer to it, and whether the turn's end follows the answer."""


def encode_conversations(tokenizer: Any, conversations: Sequence[Messages]) -> list[EncodedConversation | None]:
    """What `encode_turns` returns for each conversation, in their order; None where the chat template refuses one.

    Raises ValueError where a conversation has no assistant turn.
    """
    return [_or_none(lambda messages=messages: encode_turns(tokenizer, messages)) for messages in conversations]


def encode_answers(tokenizer: Any, turns: Sequence[Answer], *, sampled: bool = True) -> list[EncodedTurn | None]:
    """What `encode_turn` returns for each conversation and answer, in their order; None where the chat template refuses one.

    Args:
        tokenizer: The tokenizer.
        turns: For each answer the conversation, its text, and whether the turn's end follows.
        sampled: Whether the answers may be some that were sampled, and so go on from the generation prompt.
    """
    return [_or_none(lambda turn=turn: encode_turn(tokenizer, turn[0], turn[1], ended=turn[2], sampled=sampled)) for turn in turns]


def encode_prompts(tokenizer: Any, prompts: Sequence[Messages]) -> list[list[int] | None]:
    """What `encode_prompt` returns for each conversation, in their order; None where the chat template refuses one."""
    return [_or_none(lambda messages=messages: encode_prompt(tokenizer, messages)) for messages in prompts]


def _or_none(encode: Callable[[], Found]) -> Found | None:
    try:
        return encode()
    except TemplateRefusedError:
        return None
