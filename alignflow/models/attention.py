"""Attention over packed rows, as an attention function of transformers: each row sees its own past alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from alignflow.models.batching import Packed

NAME = "packed_rows"
_LAYOUT: ContextVar[Packed] = ContextVar("packed_rows")


@contextlib.contextmanager
def rows_of(packed: Packed) -> Iterator[None]:
    """Say which rows the sequence of the forward pass inside holds."""
    token = _LAYOUT.set(packed)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def packed_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float | None = None, dropout: float = 0.0, sliding_window: int | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention within each row.

    Rows are laid into a (rows, longest) grid for the product alone. Nothing has to mask the places past a row's end:
    they come after every real token, and causal attention never looks ahead.

    Args:
        query: (1, heads, T, width); key and value (1, key-value heads, T, width).

    Returns:
        (1, T, heads, width), and no weights.
    """
    layout = _LAYOUT.get()
    rows, longest = layout.gather.shape
    places = layout.gather.flatten()

    def grid(states: torch.Tensor) -> torch.Tensor:
        return states[0].index_select(1, places).unflatten(1, (rows, longest)).transpose(0, 1)

    window = None
    if sliding_window is not None and longest > sliding_window:
        offsets = torch.arange(longest, device=query.device)
        distance = offsets[:, None] - offsets[None, :]
        window = (distance >= 0) & (distance < sliding_window)
    mixed = scaled_dot_product_attention(
        grid(query), grid(key), grid(value), attn_mask=window, is_causal=window is None, dropout_p=dropout, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    flat = mixed.transpose(1, 2).flatten(0, 1)  # (rows * longest, heads, width)
    return flat.index_select(0, layout.scatter)[None], None


def no_mask(*_: Any, **__: Any) -> None:
    """The rows' layout stands for the mask."""
    return None


def install(model: Any) -> None:
    """Make a loaded model use this attention."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, no_mask)
    model.set_attn_implementation(NAME)
