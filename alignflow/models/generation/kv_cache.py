"""A key-value cache that grows in place and whose lines are refilled, while the one of transformers copies itself at every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A full-attention layer whose tensors (batch, heads, length, width) are views of buffers with room to grow.

    Changes of `keys` and `values` by the base class (select rows, crop) are safe: new buffers are made
    if the views are not the ones returned last.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, room: int):
        super().__init__()
        self._room = room
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._handed_out: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens, shape (batch, heads, new, width); return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or self.keys is not self._handed_out or end > self._buffers[0].shape[-2]:
            self._buffers = (
                self._roomier(self.keys, key_states, start, end),
                self._roomier(self.values, value_states, start, end),
            )
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._hand_out(end)
        return self.keys, self.values

    def place(self, lines: torch.Tensor, other: DynamicLayer, sources: torch.Tensor, shape: tuple[int, int]) -> None:
        """Copy prompts of another cache into lines of this one, at the right end; with `shape`, into a new one (batch, length)."""
        if not self.is_initialized:
            self.lazy_initialization(other.keys, other.values)
            self._buffers = (self._blank(other.keys, shape), self._blank(other.values, shape))
            self._hand_out(shape[1])
        start = self.get_seq_length() - other.keys.shape[-2]
        self.keys[lines, :, start:] = other.keys[sources]
        self.values[lines, :, start:] = other.values[sources]

    def drop_left(self, count: int) -> None:
        """Drop the first `count` tokens of every line."""
        self.keys, self.values = self.keys[:, :, count:], self.values[:, :, count:]

    def _hand_out(self, end: int) -> None:
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        self._handed_out = self.keys

    def _blank(self, like: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        # Zeros, not garbage: masked values are multiplied by 0, and 0 times infinity is NaN.
        return like.new_zeros((shape[0], like.shape[1], shape[1] + self._room, like.shape[3]))

    def _roomier(self, old: torch.Tensor, states: torch.Tensor, start: int, end: int) -> torch.Tensor:
        batch, heads, _, width = states.shape
        buffer = states.new_empty((batch, heads, end + self._room, width))
        if start:
            buffer[:, :, :start] = old
        return buffer


def make_cache(config: PretrainedConfig, room: int) -> DynamicCache:
    """A cache for `config`, with room for `room` tokens after the prompt in each full-attention layer."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_refillable(cache: DynamicCache) -> bool:
    """Whether lines of the cache can be reused for other prompts: all of its layers have full attention."""
    return bool(cache.layers) and all(type(layer) is RoomyLayer for layer in cache.layers)
