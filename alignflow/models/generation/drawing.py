"""Drawing the next token: each row inverts its distribution with its own stream of uniform numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from alignflow.models.generation.base import Sampling

_BLOCK = 256  # tokens that are summed before the cumulative sum: summing is vectorised, a cumulative sum is not


def uniform_streams(seeds: Sequence[int], length: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (rows, length), fp64; a row depends only on its seed."""
    streams = [numpy.random.Generator(numpy.random.Philox(key=seed)).random(length) for seed in seeds]
    return torch.from_numpy(numpy.stack(streams)) if streams else torch.empty(0, length, dtype=torch.float64)


def draw(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Next tokens, shape (rows,), from logits (rows, vocabulary) and one uniform number per row.

    Sampling inverts the cumulative distribution, so a row needs one number per token for any
    vocabulary. Computed in fp32, summed in fp64.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(_heated(logits, sampling), dim=-1)
    if sampling.top_p == 1 and not sampling.top_k:
        return _invert(probabilities, uniform)
    best, order = _kept(probabilities, sampling)
    return order.gather(-1, _invert(best, uniform)[:, None])[:, 0]


def drawn_logps(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probabilities, (rows,) fp32, of drawn tokens (rows,) under the distribution that `draw` drew them from.

    With greedy decoding it is 0, for the most probable token.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return torch.zeros(len(tokens), device=logits.device)
    logits = _heated(logits, sampling)
    if sampling.top_p < 1 or sampling.top_k:
        best, order = _kept(torch.softmax(logits, dim=-1), sampling)
        cut = torch.full_like(logits, -torch.inf)
        logits = cut.scatter(-1, order, logits.gather(-1, order).masked_fill(best == 0, -torch.inf))
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _heated(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    return logits if sampling.temperature == 1 else logits / sampling.temperature


def _kept(probabilities: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """The distribution after top_k and top_p: weights, the largest first and 0 where cut, and the token of each."""
    count = min(sampling.top_k, probabilities.shape[-1]) if sampling.top_k else probabilities.shape[-1]
    best, order = _sorted(probabilities, count)
    # top_p is a share of what is left after top_k, as in other libraries.
    best = best / best.sum(dim=-1, keepdim=True)
    before = best.cumsum(dim=-1) - best
    return best.masked_fill(before >= sampling.top_p, 0.0), order


def _sorted(probabilities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    if count < probabilities.shape[-1]:
        return torch.topk(probabilities, count, dim=-1)
    return torch.sort(probabilities, dim=-1, descending=True, stable=True)


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first place whose cumulative weight exceeds the share `uniform` of the total: first its block, then the place in it."""
    spare = -weights.shape[-1] % _BLOCK
    blocks = (torch.nn.functional.pad(weights, (0, spare)) if spare else weights).unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(dim=-1, dtype=torch.float64)
    cumulative = sums.cumsum(dim=-1)
    target = (uniform.to(cumulative.device) * cumulative[:, -1])[:, None]
    block = _first_above(cumulative, target)
    before = (cumulative - sums).gather(-1, block)
    inside = blocks.take_along_dim(block[:, :, None], dim=1)[:, 0].cumsum(dim=-1, dtype=torch.float64)
    return (block * _BLOCK + _first_above(inside, target - before))[:, 0]


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # A target below the total may round up to it: then the last place with weight is taken.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(cumulative, target, right=True), last)
