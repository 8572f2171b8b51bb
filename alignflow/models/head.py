"""Statistics of a language model's head per token, in chunks: the logits of all tokens are never in memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from alignflow.models.frozen_weights import FrozenLinear
from alignflow.models.token_statistics import STATISTICS, Chunk

CHUNK_TOKENS = {"cpu": 128, "cuda": 2048}
"""Tokens whose logits are in memory at a time: measured on a CPU (docs/measurements/benchmarks.md); on a GPU it is enough to keep it busy."""


@dataclass(frozen=True)
class Scaling:
    """How a head's product becomes logits: logits = cap * tanh(product * factor / cap) / temperature.

    Attributes:
        factor: A scale (Granite, Cohere, Falcon-H1).
        cap: A soft cap (Gemma 2, RecurrentGemma); None for none.
        temperature: Sampling temperature; 1 for the model's own distribution.
    """

    factor: float = 1.0
    cap: float | None = None
    temperature: float = 1.0

    def apply(self, product: torch.Tensor) -> torch.Tensor:
        """Logits, in fp32 at least."""
        logits = product if product.dtype == torch.float64 else product.float()
        if self.factor != 1.0:
            logits = logits * self.factor
        if self.cap:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits if self.temperature == 1.0 else logits / self.temperature

    def backward(self, logits: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the product from that of the logits."""
        if self.cap:
            gradient = gradient * (1 - (logits * self.temperature / self.cap).square())
        scale = self.factor / self.temperature
        return gradient if scale == 1.0 else gradient * scale


def scaling_of(config: Any, temperature: float = 1.0) -> Scaling:
    """The scaling that a model's config asks for, under the names that architectures give it."""

    def first(*names: str) -> float | None:
        return next((float(found) for name in names if (found := getattr(config, name, None))), None)

    factor = (first("logit_scale", "lm_head_multiplier") or 1.0) / (first("logits_scaling") or 1.0)
    return Scaling(factor, first("final_logit_softcapping", "logits_soft_cap"), temperature)


@dataclass(frozen=True)
class Head:
    """A model's head.

    Attributes:
        module: From hidden states (tokens, width) to products (tokens, vocabulary).
        scaling: How products become logits.
        dtype: dtype in which a plain linear head multiplies.
    """

    module: torch.nn.Module
    scaling: Scaling
    dtype: torch.dtype = torch.float32

    @property
    def plain(self) -> bool:
        """Whether it is one whole matrix that the statistics may read directly."""
        return type(self.module) in (torch.nn.Linear, FrozenLinear) and self.module.weight.ndim == 2


@dataclass(frozen=True)
class Reference:
    """A second model's head and its hidden states of the same tokens, (tokens, width), without gradients."""

    head: Head
    hidden: torch.Tensor


@dataclass(frozen=True)
class Request:
    """The statistics to compute for some tokens.

    Attributes:
        which: Names of STATISTICS.
        targets: (tokens,) int64.
        top_k: For the statistics of the most probable tokens.
        reference: For statistics that compare.
        uniform: (tokens,) fp64 in [0, 1), for the statistic that draws.
        jsd_beta: For `generalized_jsd`.
        summed: Whether the caller's loss is a multiple of the sum of all `logps`. Then the matrix's gradient can be computed in the
            forward pass, up to a factor (`_Statistics`); if this is wrong, it is computed again.
    """

    which: tuple[str, ...]
    targets: torch.Tensor
    top_k: int = 8
    reference: Reference | None = None
    uniform: torch.Tensor | None = None
    jsd_beta: float = 0.5
    summed: bool = False

    def chunk(self, head: Head, raw: torch.Tensor, part: slice, which: Sequence[str]) -> Chunk:
        """The tokens `part` with the head's product `raw`; the reference's head runs if one of the statistics `which` compares."""
        other = None
        if self.reference is not None and any(STATISTICS[name].compares for name in which):
            with torch.no_grad():
                other = self.reference.head.scaling.apply(product(self.reference.head, self.reference.hidden[part]))
        uniform = None if self.uniform is None else self.uniform[part]
        return Chunk(head.scaling.apply(raw), self.targets[part], self.top_k, other, uniform, self.jsd_beta)


def head_statistics(head: Head, hidden: torch.Tensor, request: Request) -> tuple[torch.Tensor, ...]:
    """The statistics of tokens with these hidden states (tokens, width), in the order of `request.which`; differentiable.

    The gradient of a plain linear head is hand-written; any other head (with adapters, or partitioned) uses checkpointing,
    at about twice the time and memory.
    """
    if head.plain:
        weight, bias = head.module.weight, head.module.bias
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        alone = [name for name in request.which if STATISTICS[name].gradient is not None] == ["logps"]
        at_once = torch.is_grad_enabled() and hidden.requires_grad and alone and (request.summed or frozen)
        return _Statistics.apply(hidden, weight, bias, head, request, at_once)

    def values(states: torch.Tensor, part: slice) -> tuple[torch.Tensor, ...]:
        chunk = request.chunk(head, product(head, states), part, request.which)
        return tuple(STATISTICS[name].value(chunk) for name in request.which)

    parts = []
    for part in _parts(hidden):
        if torch.is_grad_enabled() and hidden.requires_grad:
            parts.append(checkpoint(values, hidden[part], part, use_reentrant=False))
        else:
            parts.append(values(hidden[part], part))
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def _parts(hidden: torch.Tensor) -> Iterator[slice]:
    """Chunks of CHUNK_TOKENS tokens; one empty chunk if there are no tokens."""
    step = CHUNK_TOKENS[hidden.device.type]
    for start in range(0, max(len(hidden), 1), step):
        yield slice(start, start + step)


def product(head: Head, hidden: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) of hidden states (tokens, width), before scaling."""
    if not head.plain:
        with torch.autocast(hidden.device.type, dtype=torch.bfloat16, enabled=head.dtype == torch.bfloat16):
            return head.module(hidden)
    weight, bias = head.module.weight, head.module.bias
    return linear(hidden.to(head.dtype), weight.to(head.dtype), None if bias is None else bias.to(head.dtype))


Learnt = tuple[str, torch.Tensor, torch.Tensor]
"""A statistic with a gradient: its name, its values, and their gradient."""


class _Gradients:
    """Gradients of a linear head's hidden states, matrix and offset, summed over chunks; None for what needs no gradient."""

    def __init__(self, inputs: Sequence[torch.Tensor | None], wanted: Sequence[bool]):
        self.hidden, self.weight, self.bias = (
            torch.zeros_like(tensor) if want and tensor is not None else None
            for tensor, want in zip(inputs, wanted, strict=True)
        )

    def add(self, part: slice, of_product: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor) -> None:
        """Add the gradients of the tokens `part` with the hidden states `states`, from the gradient of their product."""
        if self.hidden is not None:
            self.hidden[part] = of_product @ matrix
        if self.weight is not None:
            _add_product(self.weight, of_product, states)
        if self.bias is not None:
            self.bias += of_product.sum(0, dtype=self.bias.dtype)

    def scaled(self, factors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Multiply in place by the tokens' factors (tokens,), which are all the same if matrix or offset needs a gradient."""
        one = factors[:1].sum()
        return (
            None if self.hidden is None else self.hidden.mul_(factors[:, None]),
            None if self.weight is None else self.weight.mul_(one),
            None if self.bias is None else self.bias.mul_(one),
        )


class _Statistics(torch.autograd.Function):
    """Statistics of a plain linear head, whose logits are recomputed in the backward pass, unless `at_once`.

    If only `logps` have a gradient, that of the logits is known in the forward pass up to a factor per token. The gradient
    of the hidden states then waits for its factors; that of the matrix is already summed over tokens and needs the same factor for all. If the
    backward pass has several factors, or runs a second time, everything is computed again.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd passes the arguments of `apply`)
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: Head,
        request: Request,
        at_once: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        states, matrix, offset = _cast(head.dtype, hidden, weight, bias)
        ctx.known = _Gradients((hidden, weight, bias), ctx.needs_input_grad[:3]) if at_once else None
        found: list[list[torch.Tensor]] = []
        for part in _parts(hidden):
            chunk = request.chunk(head, linear(states[part], matrix, offset), part, request.which)
            found.append([STATISTICS[name].value(chunk) for name in request.which])
            if ctx.known is not None:
                of_logits = chunk.probabilities.scatter_add_(
                    -1, chunk.targets[:, None], -torch.ones_like(chunk.normaliser)
                )
                of_product = head.scaling.backward(chunk.logits, of_logits).to(head.dtype)
                ctx.known.add(part, of_product, states[part], matrix)  # of -logps
        values = tuple(torch.cat(column) for column in zip(*found, strict=True))
        ctx.save_for_backward(hidden, weight, bias, *values)
        ctx.head, ctx.request = head, request
        ctx.mark_non_differentiable(
            *[value for name, value in zip(request.which, values, strict=True) if STATISTICS[name].gradient is None]
        )
        ctx.set_materialize_grads(False)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[Any, ...]:
        hidden, weight, bias, *values = ctx.saved_tensors
        head, request = ctx.head, ctx.request
        known, ctx.known = ctx.known, None
        if known is not None:
            of_logps = gradients[request.which.index("logps")]
            if of_logps is None:
                return (None,) * 6
            if (known.weight is None and known.bias is None) or bool((of_logps == of_logps[:1]).all()):
                return (*known.scaled(-of_logps), None, None, None)
            del known
        states, matrix, offset = _cast(head.dtype, hidden, weight, bias)
        found = _Gradients((hidden, weight, bias), ctx.needs_input_grad[:3])
        learnt: list[Learnt] = [
            (name, value, gradient)
            for name, value, gradient in zip(request.which, values, gradients, strict=True)
            if gradient is not None and STATISTICS[name].gradient is not None
        ]
        for part in _parts(hidden) if learnt else ():
            chunk = request.chunk(head, linear(states[part], matrix, offset), part, [name for name, _, _ in learnt])
            of_logits = _of_logits(chunk, learnt, part)
            found.add(part, head.scaling.backward(chunk.logits, of_logits).to(head.dtype), states[part], matrix)
        return found.hidden, found.weight, found.bias, None, None, None


def _of_logits(chunk: Chunk, learnt: Sequence[Learnt], part: slice) -> torch.Tensor:
    """The gradient of a chunk's logits, summed over the statistics that have one; there must be one."""
    total: torch.Tensor | None = None
    for name, value, gradient in learnt:
        rule = STATISTICS[name].gradient
        assert rule is not None
        term = rule(chunk, value[part], gradient[part])
        total = term if total is None else total.add_(term)
    assert total is not None
    return total


def _cast(dtype: torch.dtype, *tensors: torch.Tensor | None) -> tuple[Any, ...]:
    return tuple(None if tensor is None else tensor.detach().to(dtype) for tensor in tensors)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left.T @ right, in place where the dtypes agree."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right
