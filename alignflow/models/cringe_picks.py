"""CRINGE's positive picks: a token to compare with each negative token, drawn from the other most probable ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy
import torch


@torch.no_grad()
def top_others(logits: torch.Tensor, tokens: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k most probable tokens other than the target, and a softmax over those k (Adolphs et al. 2022, arXiv 2211.05826).

    If logits are equal, the smaller id comes first, on every device.

    Args:
        logits: (N, vocabulary) logits or log-probabilities.
        tokens: (N,) int64: the negative tokens.
        k: How many; at most the size of the vocabulary minus one.

    Returns:
        Ids (N, k) int64, by falling probability, and probabilities (N, k) that sum to 1. No gradient.
    """
    left = logits.scatter(-1, tokens[:, None], -torch.inf)  # a copy
    count = min(k, logits.shape[-1] - 1)
    values, ids = left.topk(count + 1, -1)  # which of several equal values are taken differs between devices
    tied = values[:, count - 1] == values[:, count]
    ids, order = ids[:, :count].sort(-1)
    values, order = values.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, order)
    if tied.any():
        values[tied], ids[tied] = _one_by_one(left[tied], count)
    return ids, values.softmax(-1)


def _one_by_one(left: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest values of each row with their places, the first of equal values: slower than `topk`, but the same on every device."""
    values, ids = [], []
    for _ in range(count):
        value, place = left.max(-1, keepdim=True)
        values.append(value)
        ids.append(place)
        left.scatter_(-1, place, -torch.inf)
    return torch.cat(values, -1), torch.cat(ids, -1)


@torch.no_grad()
def draw_picks(logits: torch.Tensor, tokens: torch.Tensor, k: int, uniform: torch.Tensor) -> torch.Tensor:
    """One of `top_others` per token, (N,) int64, by inversion of its distribution.

    Args:
        logits: (N, vocabulary).
        tokens: (N,) int64: the negative tokens.
        k: Of how many.
        uniform: (N,) fp64 numbers in [0, 1), as `uniform_numbers` gives them: the same numbers give the same picks, so
            a backward pass that recomputes the logits gets the same ones.
    """
    ids, probabilities = top_others(logits, tokens, k)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    place = (cumulative <= uniform.to(cumulative)[:, None] * cumulative[:, -1:]).sum(-1)
    last = (probabilities > 0).sum(-1) - 1  # limit for rounding: the last token with probability above 0
    return ids.gather(-1, torch.minimum(place, last)[:, None])[:, 0]


def uniform_numbers(names: Sequence[str], tokens: Sequence[int], seed: int, step: int) -> torch.Tensor:
    """Numbers in [0, 1) for the tokens of answers, (N,) fp64 on the CPU, answer after answer.

    An answer's numbers depend only on seed, step and its name, not on the other answers.

    Args:
        names: (answers,) a name for each answer of the data, different for each.
        tokens: (answers,) how many tokens of each count.
        seed: The training's seed.
        step: Number of the optimizer step, so that a later epoch draws other tokens.
    """
    streams = []
    for name, count in zip(names, tokens, strict=True):
        digest = hashlib.blake2b(f"{seed}\x1f{step}\x1f{name}".encode(), digest_size=16).digest()
        generator = numpy.random.Generator(numpy.random.Philox(key=int.from_bytes(digest, "little")))
        streams.append(generator.random(int(count)))
    return torch.from_numpy(numpy.concatenate(streams)) if streams else torch.empty(0, dtype=torch.float64)
