"""The decode loop: lines decode together, and the next prompt takes the place of a line that has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from alignflow.models.batching import make_micro_batches
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.generation.drawing import draw, drawn_logps
from alignflow.models.generation.kv_cache import is_refillable

# Ended lines are refilled or dropped once they are this share of all, since that costs a pass or a copy.
_SHARE = 0.125
# Columns that no line uses are dropped once they are this share of the cache, since that copies it.
_UNUSED = 0.25

Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], torch.Tensor]


class Decoding:
    """Completions of some prompts, a limited number of them at a time.

    A row depends only on its prompt and its uniform numbers, up to rounding. Which rows decode together depends on the prompts
    and on where they end, so a rerun of the same rows has the same rounding.

    Args:
        prompts: Token ids, at least one each.
        uniform: (rows, limit) fp64 numbers in [0, 1), one for each token that a row may draw.
        sampling: How to draw.
        forward: Logits after the last of `ids` from (ids, mask, position ids, cache): (lines, vocabulary).
        new_cache: Makes an empty cache with room for so many tokens after the prompt.
        stop: (stop tokens,) ids that end a row.
        lines: Most rows that decode together.
        tokens: Most tokens of a prefill's forward pass (or one prompt).
    """

    def __init__(  # noqa: PLR0913 (settings of the model, the request and the machine)
        self,
        prompts: Sequence[tuple[int, ...]],
        uniform: torch.Tensor,
        sampling: Sampling,
        *,
        forward: Forward,
        new_cache: Callable[[int], Any],
        stop: torch.Tensor,
        lines: int,
        tokens: int,
    ):
        self._prompts, self._uniform, self._sampling = prompts, uniform.to(stop.device), sampling
        self._forward, self._new_cache, self._stop, self._device = forward, new_cache, stop, stop.device
        self._most_lines, self._most_tokens = lines, tokens
        shape = (len(prompts), sampling.max_new_tokens)
        self._made = torch.zeros(shape, dtype=torch.long, device=self._device)
        self._logps = torch.zeros(shape, device=self._device) if sampling.logps else None
        self._lengths = torch.full(shape[:1], shape[1], device=self._device)  # tokens before the stop token

    def run(self) -> list[Generation]:
        """All completions, in the order of the prompts."""
        # Long prompts first: a later one then fits into an existing line of the cache.
        waiting = deque(
            sorted(range(len(self._prompts)), key=lambda row: (-len(self._prompts[row]), self._prompts[row], row))
        )
        while waiting:
            self._start(waiting)
            while self._step(waiting):
                pass
        return self._completions()

    def _start(self, waiting: deque[int]) -> None:
        """Start the first rows."""
        rows = [waiting.popleft() for _ in range(min(self._most_lines, len(waiting)))]
        count, width = len(rows), len(self._prompts[rows[0]])
        self._cache = self._new_cache(self._sampling.max_new_tokens)
        self._refills = is_refillable(self._cache)
        self._live = torch.empty(count, dtype=torch.long, device=self._device)  # row of each line
        self._drawn = torch.zeros(count, dtype=torch.long, device=self._device)  # tokens that each line has drawn
        self._positions = torch.zeros(
            count, dtype=torch.long, device=self._device
        )  # position of each line's next token
        self._running = torch.ones(count, dtype=torch.bool, device=self._device)
        self._mask = torch.zeros((count, width), dtype=torch.long, device=self._device)
        self._logits = torch.empty(0)
        self._admit(rows, torch.arange(count, device=self._device))

    def _step(self, waiting: deque[int]) -> bool:
        """Draw a token for each running line and run the model; False once no line runs and none can be refilled."""
        tokens = self._draw()
        ended = len(self._running) - int(self._running.sum())
        if ended == len(self._running) and not (self._refills and waiting):
            return False
        if ended < len(self._running):
            if ended >= self._enough() and not (self._refills and waiting):
                tokens = self._drop_ended(tokens)
            self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=1)
            self._logits = self._forward(tokens[:, None], self._mask, self._positions[:, None], self._cache)
            # The position of an ended line does not advance: it could leave the model's context.
            self._positions = self._positions + self._running
        if self._refills and waiting and ended >= self._enough():
            self._refill(waiting)
        return True

    def _enough(self) -> int:
        return max(1, int(_SHARE * len(self._running)))

    def _draw(self) -> torch.Tensor:
        """The next token of every line; those of running lines are kept."""
        lines = self._running.nonzero()[:, 0]
        rows, places = self._live[lines], self._drawn[lines]
        limit = self._sampling.max_new_tokens
        drawn = draw(self._logits[lines], self._uniform[rows, places], self._sampling)
        self._made[rows, places] = drawn
        if self._logps is not None:
            self._logps[rows, places] = drawn_logps(self._logits[lines], drawn, self._sampling)
        stopped = torch.isin(drawn, self._stop)
        self._lengths[rows[stopped]] = places[stopped]
        self._drawn[lines] = places + 1
        self._running[lines] = ~(stopped | (places + 1 == limit))
        tokens = self._live.new_zeros(len(self._live))
        tokens[lines] = drawn
        return tokens

    def _drop_ended(self, tokens: torch.Tensor) -> torch.Tensor:
        kept = self._running.nonzero()[:, 0]
        self._cache.reorder_cache(kept)
        for name in ("_live", "_drawn", "_positions", "_mask", "_running"):
            setattr(self, name, getattr(self, name)[kept])
        return tokens[kept]

    def _refill(self, waiting: deque[int]) -> None:
        """Assign ended lines to waiting rows, those of one prompt together if they fit."""
        free = (~self._running).nonzero()[:, 0]
        rows = [waiting.popleft() for _ in range(min(len(free), len(waiting)))]
        split = rows[-1] if waiting and self._prompts[waiting[0]] == self._prompts[rows[-1]] else None
        if split is not None and self._prompts[rows[0]] != self._prompts[split]:
            while self._prompts[rows[-1]] == self._prompts[split]:
                waiting.appendleft(rows.pop())
        lines = free[: len(rows)]
        self._mask[lines] = 0
        self._running[lines] = True
        self._drop_unused(len(self._prompts[rows[0]]))
        self._admit(rows, lines)

    def _drop_unused(self, longest: int) -> None:
        """Drop the columns at the left that no running line uses, if there are many."""
        width = self._mask.shape[1]
        used = self._mask[self._running].any(dim=0).nonzero()[:, 0]
        unused = min(int(used[0]) if len(used) else width, width - longest)
        if unused >= _UNUSED * width:
            for layer in self._cache.layers:
                layer.drop_left(unused)
            self._mask = self._mask[:, unused:]

    def _admit(self, rows: list[int], lines: torch.Tensor) -> None:
        """Run the model over the prompts of `rows`, equal ones once, and assign each row its line."""
        unique = sorted({self._prompts[row] for row in rows}, key=lambda prompt: (len(prompt), prompt))
        whole = [list(range(len(unique)))]
        batches = make_micro_batches([len(prompt) for prompt in unique], self._most_tokens) if self._refills else whole
        for batch in batches:
            place = {unique[index]: number for number, index in enumerate(batch)}
            chosen = [number for number, row in enumerate(rows) if self._prompts[row] in place]
            sources = torch.tensor([place[self._prompts[rows[number]]] for number in chosen], device=self._device)
            self._prefill([unique[index] for index in batch], sources, lines[torch.tensor(chosen, device=self._device)])
        self._live[lines] = torch.tensor(rows, device=self._device)
        self._drawn[lines] = 0
        self._positions[lines] = torch.tensor([len(self._prompts[row]) for row in rows], device=self._device)

    def _prefill(self, prompts: Sequence[tuple[int, ...]], sources: torch.Tensor, lines: torch.Tensor) -> None:
        ids, mask = pad_left(prompts, self._device)
        cache = self._new_cache(0) if self._refills else self._cache
        logits = self._forward(ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), cache)
        if self._refills:
            for layer, other in zip(self._cache.layers, cache.layers, strict=True):
                layer.place(lines, other, sources, tuple(self._mask.shape))
        else:
            cache.reorder_cache(sources)
        self._mask[lines, self._mask.shape[1] - ids.shape[1] :] = mask[sources]
        if not len(self._logits):
            self._logits = logits.new_empty((len(self._live), logits.shape[1]))
        self._logits[lines] = logits[sources]

    def _completions(self) -> list[Generation]:
        limit = self._sampling.max_new_tokens
        logps = [None] * len(self._made) if self._logps is None else self._logps.tolist()
        return [
            Generation(
                tuple(row[:length]),
                length < limit,
                row[length] if length < limit else None,
                None if values is None else tuple(values[: length + 1]),
            )
            for row, length, values in zip(self._made.tolist(), self._lengths.tolist(), logps, strict=True)
        ]


def pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (prompts, longest) int64 each, padded at the left."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for line, prompt in enumerate(prompts):
        ids[line, width - len(prompt) :] = torch.tensor(prompt)
        mask[line, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
