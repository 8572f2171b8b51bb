"""Attention over packed rows, as an attention function of transformers: each row attends only to its prompt and its own past."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from alignflow.models import flash
from alignflow.models.batching import Packed, Segment, group_similar, row_places

NAME = "packed_rows"
SPARE = 0.25  # rows whose lengths differ by at most this share form one rectangle: measured, docs/measurements/benchmarks.md
LARGEST_RECTANGLE = 16384  # tokens
FAR = 2**40  # position of a padding place: no query sees it
NEUTRAL = frozenset(
    {
        "position_ids",
        "cache_position",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "is_causal",
    }
)
"""Arguments of an attention function that do not change the product."""


class Refused(Exception):
    """The model asks for an attention that this function does not compute."""


@dataclass(frozen=True)
class Rectangle:
    """Rows whose attention is computed together, as (rows, longest) with spare places at the right.

    Attributes:
        queries: (rows, longest query) int64 places in the packed sequence; spare ones repeat a row's last token.
        keys: (rows, longest key) int64 places, likewise.
        query_positions: (rows, longest query) int64: position within the row.
        key_positions: (rows, longest key) int64; FAR at spare places.
        wanted: (tokens,) int64: which of the flattened queries are tokens.
        causal: Whether queries and keys are the same places: then nothing has to mask the spare keys, which come
            after every token.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    query_positions: torch.Tensor
    key_positions: torch.Tensor
    wanted: torch.Tensor
    causal: bool

    def mask(self, window: int | None) -> torch.Tensor | None:
        """(rows, 1, longest query, longest key) bool: which keys each query sees; None if the causal mask is enough."""
        windowed = window is not None and self.key_positions.shape[1] > window
        if self.causal and not windowed:
            return None
        queries, keys = self.query_positions[:, :, None], self.key_positions[:, None, :]
        seen = keys <= queries
        if windowed:
            seen &= keys > queries - window
        return seen[:, None]


@dataclass(frozen=True)
class Layout:
    """How a packed sequence is computed.

    Attributes:
        rectangles: Its segments, those of similar length together.
        order: (T,) int64: place of each token of the sequence in the rectangles' wanted queries, end to end.
        varlen: The same for a flash kernel, if there is one.
        masks: Masks by window: the same in every layer.
        windows: Windows that the model's layers passed to this attention.
        asked: Windows (or chunks) of the masks that the model asked for.
    """

    rectangles: tuple[Rectangle, ...]
    order: torch.Tensor
    varlen: flash.Varlen | None
    masks: dict[int | None, list[torch.Tensor | None]] = field(default_factory=dict)
    windows: set[int | None] = field(default_factory=set)
    asked: set[int | None] = field(default_factory=set)

    def masks_for(self, window: int | None) -> list[torch.Tensor | None]:
        """One mask per rectangle."""
        if window not in self.masks:
            self.masks[window] = [rectangle.mask(window) for rectangle in self.rectangles]
        return self.masks[window]


def make_layout(packed: Packed) -> Layout:
    """Sort a packed sequence's segments into rectangles: rows without a prefix, and completions after a shared prompt."""
    segments = sorted((segment for segment in packed.segments if segment.length), key=lambda segment: segment.start)
    rectangles: list[Rectangle] = []
    for prefixed in (False, True):
        chosen = [index for index, segment in enumerate(segments) if bool(segment.prefix_length) == prefixed]
        for group in group_similar(chosen, lambda index: segments[index].total, SPARE, LARGEST_RECTANGLE):
            rectangles.append(_rectangle([segments[index] for index in group], packed.position_ids[0]))
    places = torch.cat([rectangle.queries.flatten()[rectangle.wanted] for rectangle in rectangles])
    order = torch.empty_like(places)
    order[places] = torch.arange(len(places), device=places.device)
    return Layout(tuple(rectangles), order, flash.varlen(segments, places.device))


def _rectangle(segments: Sequence[Segment], positions: torch.Tensor) -> Rectangle:
    keys, there = row_places(segments, positions.device)
    key_positions = torch.where(there, positions[keys], FAR)
    if not segments[0].prefix_length:
        return Rectangle(keys, keys, positions[keys], key_positions, there.flatten().nonzero()[:, 0], causal=True)
    queries, wanted = row_places([Segment(segment.start, segment.length) for segment in segments], positions.device)
    return Rectangle(queries, keys, positions[queries], key_positions, wanted.flatten().nonzero()[:, 0], causal=False)


_LAYOUT: ContextVar[Layout | None] = ContextVar("packed_rows", default=None)


@contextlib.contextmanager
def rows_of(packed: Packed) -> Iterator[Layout]:
    """A context that sets which rows the sequence of a forward pass holds."""
    layout = make_layout(packed)
    with laid_out(layout):
        yield layout


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """A context that sets how the attention of a forward pass is computed."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def packed_attention(  # noqa: PLR0913 (what transformers passes)
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of the layout that `rows_of` set.

    Args:
        query: (1, heads, T, width); key and value (1, key-value heads, T, width).
        sliding_window: Tokens that a token sees, itself included; None for all.

    Returns:
        (1, T, heads, width), and no weights.

    Raises:
        Refused: outside `rows_of`, or with an argument (soft cap, position bias, sinks) that changes the product.
    """
    layout = _LAYOUT.get()
    unknown = [name for name, found in others.items() if found is not None and name not in NEUTRAL]
    if layout is None or unknown:
        raise Refused(", ".join(unknown) or "a forward pass without a layout of rows")
    layout.windows.add(sliding_window)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # (T, heads, width)
    if layout.varlen and query.dtype in flash.DTYPES and not dropout:
        return flash.attention(query, key, value, layout.varlen, scaling, sliding_window)[None], None

    def laid(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return states.index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2)

    parts = []
    for rectangle, mask in zip(layout.rectangles, layout.masks_for(sliding_window), strict=True):
        mixed = scaled_dot_product_attention(
            laid(query, rectangle.queries),
            laid(key, rectangle.keys),
            laid(value, rectangle.keys),
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(mixed.transpose(1, 2).flatten(0, 1).index_select(0, rectangle.wanted))
    return torch.cat(parts).index_select(0, layout.order)[None], None


def _no_mask(*_: Any, local_size: int | None = None, **__: Any) -> None:
    """Returns the rows' layout instead of a mask; it records which kinds of mask the model asks for."""
    if (layout := _LAYOUT.get()) is not None:
        layout.asked.add(local_size)


_OWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_REFUSING: WeakSet[Any] = WeakSet()


def install(model: Any) -> None:
    """Make a loaded model use this attention, unless it was found not to support it."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    _OWN.setdefault(model, model.config._attn_implementation)
    if model not in _REFUSING:
        model.set_attn_implementation(NAME)


@contextlib.contextmanager
def packing(model: Any) -> Iterator[None]:
    """A context in which a model uses this attention."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def uninstall(model: Any) -> None:
    """Give a model back the attention that it was loaded with: ours is not part of the model's config."""
    if model in _OWN:
        model.set_attn_implementation(_OWN[model])


def refuse(model: Any) -> None:
    """Keep this model's own attention from now on."""
    _REFUSING.add(model)
    uninstall(model)
