"""The longest row of a training: the config's limit, and at most the model's context."""

from __future__ import annotations

from typing import Any


def context_of(model: Any) -> int | None:
    """Tokens of the context of a model of transformers; None if its config has none."""
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or None


def room(max_length: int, context: int | None, field: str) -> tuple[int, str]:
    """The longest row in tokens, and the name of that limit for messages.

    Beyond its context a model with learned positions fails, and one with rotary positions trains on positions that are
    never used later.

    Args:
        max_length: The config's limit.
        context: The model's, or None.
        field: Name of the config's field.
    """
    if context is not None and context < max_length:
        return context, f"the model's context of {context} tokens"
    return max_length, f"{field} {max_length}"
