"""Drawing the next token: each row has its own stream of uniform numbers and inverts its own distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from alignflow.models.generation.base import Sampling


def uniform_streams(seeds: Sequence[int], length: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (rows, length), fp64; a row depends on its own seed alone."""
    streams = [numpy.random.Generator(numpy.random.Philox(key=seed)).random(length) for seed in seeds]
    return torch.from_numpy(numpy.stack(streams)) if streams else torch.empty(0, length, dtype=torch.float64)


def draw(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Next tokens, shape (rows,), from logits (rows, vocabulary) and one uniform number per row.

    Sampling inverts the cumulative distribution, so that a row needs one number per token, whatever the
    vocabulary. Computed in fp32, summed in fp64.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p == 1 and not sampling.top_k:
        return _invert(probabilities, uniform)
    count = min(sampling.top_k, logits.shape[-1]) if sampling.top_k else logits.shape[-1]
    best, order = _sorted(probabilities, count)
    # top_p is a share of what top_k left over: the two cut one after the other, as elsewhere.
    best = best / best.sum(dim=-1, keepdim=True)
    before = best.cumsum(dim=-1) - best
    best = best.masked_fill(before >= sampling.top_p, 0.0)
    return order.gather(-1, _invert(best, uniform)[:, None])[:, 0]


def _sorted(probabilities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    if count < probabilities.shape[-1]:
        return torch.topk(probabilities, count, dim=-1)
    return torch.sort(probabilities, dim=-1, descending=True, stable=True)


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    # A number below 1 times the total may round up to the total: the last token that has weight takes it.
    target = (uniform.to(cumulative.device) * cumulative[:, -1])[:, None]
    token = torch.searchsorted(cumulative, target, right=True)[:, 0]
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(token, last)
