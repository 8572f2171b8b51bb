"""Noise on a model's embeddings while it trains: NEFTune (Jain et al. 2023, arXiv 2310.05914)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from alignflow.models.batching import EncodedRow, Packed
from alignflow.models.cringe_picks import uniform_numbers

Noise = Callable[[int], torch.Tensor]
"""Width of the embeddings -> (T, width) fp32 on the CPU: the noise to add to the embedding of each token of a packed sequence."""
MakeNoise = Callable[[Packed], Noise]


class EmbeddingNoise:
    """Uniform noise from (-1, 1), times alpha / sqrt(L d), for rows of L tokens and embeddings of width d.

    L is a row's own length, prompt included, as in the paper. The noise of a row depends only on seed, number of the step and name of the
    row, not on how a step is split into micro-batches or over processes. A row that is in a step twice gets the same
    noise twice. It is a `WholeStep` of `fit`, which saves the number of the step.

    Args:
        alpha: How strong it is; the paper takes 5, 10 or 15.
        seed: The training's seed.
    """

    def __init__(self, alpha: float, seed: int):
        self._alpha, self._seed, self._step = alpha, seed, 0

    def before(self, rows: list[int]) -> dict[str, tuple[float, float]]:
        """Count the step; it has no metrics."""
        self._step += 1
        return {}

    def state(self) -> dict[str, float]:
        """The number of steps so far."""
        return {"step": self._step}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from `state`; an empty one is the beginning."""
        self._step = int(state.get("step", 0))

    def of(self, names: Sequence[str]) -> MakeNoise:
        """This step's noise for rows with these names; they must be packed in this order without shared prompts."""
        step = self._step

        def make(packed: Packed) -> Noise:
            return cache(lambda width: self._drawn(names, packed, width, step))

        return make

    def _drawn(self, names: Sequence[str], packed: Packed, width: int, step: int) -> torch.Tensor:
        noise = torch.empty(packed.input_ids.shape[1], width)
        for name, segment in zip(names, packed.segments, strict=True):
            numbers = uniform_numbers([name], [segment.length * width], self._seed, step)
            scale = self._alpha / (segment.length * width) ** 0.5
            noise[segment.start : segment.start + segment.length] = (
                ((2 * numbers - 1) * scale).float().view(segment.length, width)
            )
        return noise


def whole(row: EncodedRow) -> EncodedRow:
    """The same row with its prompt moved into the completion, so that it is not shared; the same tokens count."""
    counts = row.mask or (True,) * len(row.completion_ids)
    return EncodedRow((), row.prompt_ids + row.completion_ids, (False,) * len(row.prompt_ids) + counts)


@contextlib.contextmanager
def added_to_embeddings(model: Any, noise: Noise | None, places: torch.Tensor | None = None) -> Iterator[None]:
    """A context in which a model adds noise to the output of its embedding layer.

    Args:
        model: A causal model of transformers.
        noise: The noise for the tokens of a packed sequence; None: none is added.
        places: (rows, longest) int64: places in the packed sequence of the model's input tokens; None: all of them in
            their order, as one row.
    """
    if noise is None:
        yield
        return

    def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        found = noise(output.shape[-1]).to(output.device, output.dtype)
        return output + (found[None] if places is None else found[places])

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
