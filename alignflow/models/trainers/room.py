"""How long a row may be that trains: as the config says, and never longer than the model's context."""

from __future__ import annotations

from typing import Any


def context_of(model: Any) -> int | None:
    """Tokens of the context that a model of transformers was made for; None if its config names none."""
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or None


def room(max_length: int, context: int | None, field: str) -> tuple[int, str]:
    """The longest row in tokens, and for messages what sets that limit.

    Beyond its context a model with learned positions fails, and one with rotary positions trains on positions that it will
    never be asked about.

    Args:
        max_length: Of the config.
        context: The model's, or None.
        field: Name of the config's field.
    """
    if context is not None and context < max_length:
        return context, f"the model's context of {context} tokens"
    return max_length, f"{field} {max_length}"
