"""PyTorch's flash attention over rows of different lengths, if CUDA has it. Tested on the machine before use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from alignflow.models.batching import Segment, row_places

DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Varlen:
    """Segments in the kernel's format: queries keep their order, keys are gathered with their prefix first.

    Attributes:
        keys: (K,) int64 places of all segments' keys, end to end; None if no segment has a prefix.
        query_starts: (segments + 1,) int32 cumulative lengths.
        key_starts: Likewise.
        longest_query: Most queries of a segment.
        longest_key: Most keys.
    """

    keys: torch.Tensor | None
    query_starts: torch.Tensor
    key_starts: torch.Tensor
    longest_query: int
    longest_key: int


@cache
def kernel() -> Any | None:
    """The kernel; None if this PyTorch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


_SWITCH = {"on": True}


def switch_off() -> None:
    """Stop using the kernel in this process: it was found to be wrong or missing."""
    _SWITCH["on"] = False


def available(device: torch.device) -> bool:
    """Whether the kernel may be used on this device."""
    return device.type == "cuda" and _SWITCH["on"] and kernel() is not None


def varlen(segments: Sequence[Segment], device: torch.device) -> Varlen | None:
    """Segments, in the order of the sequence, for the kernel; None if it cannot be used."""
    if not available(device):
        return None

    def starts(lengths: list[int]) -> torch.Tensor:
        return torch.tensor([0, *lengths], device=device).cumsum(0).int()

    queries, keys = [segment.length for segment in segments], [segment.total for segment in segments]
    shared = any(segment.prefix_length for segment in segments)
    places, there = row_places(segments, device) if shared else (None, None)
    return Varlen(None if places is None else places[there], starts(queries), starts(keys), max(queries), max(keys))


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: Varlen, scaling: float | None, window: int | None
) -> torch.Tensor:
    """(T, heads, width) from states of that shape; causal from the end: a segment's last query sees its last key."""
    if rows.keys is not None:
        key, value = key.index_select(0, rows.keys), value.index_select(0, rows.keys)
    call = kernel()
    assert call is not None
    return call(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        rows.query_starts,
        rows.key_starts,
        rows.longest_query,
        rows.longest_key,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
