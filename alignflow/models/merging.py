"""Merges of what several trainings changed in one matrix (deltas), and statistics of them: task arithmetic, TIES, DARE, SLERP.

All are pure functions of whole deltas: merging the factors of low-rank adapters is not linear in the deltas. Votes
and sums are peft's. This file has what peft lacks or draws from the global generator. PAFT merges such deltas
(Pentyala et al. 2024, arXiv 2406.17923). Deltas in half precision are computed in fp32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from alignflow.data.errors import ModelError
from alignflow.models.losses.base import at_least_fp32

TOLERANCE = 1e-5
"""A change of at most this much counts as none: gradient steps on an L1 penalty end near zero, almost never at zero."""


def lora_delta(a: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
    """(alpha / r) B A, (out, in), from the factors (r, in) and (out, r) of a low-rank adapter (Hu et al. 2021, arXiv 2106.09685)."""
    return alpha / len(a) * (at_least_fp32(b) @ at_least_fp32(a))


def magnitude_trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """The floor(density * entries) entries of greatest magnitude, 0 elsewhere (TIES, Yadav et al. 2023, arXiv 2306.01708).

    Of equal magnitudes the first ones are kept; in peft this depends on the device. Raises ValueError for a density that is
    not between 0 and 1.
    """
    _check_density(density)
    sizes, kept = delta.abs().flatten(), int(density * delta.numel())
    if kept in (0, delta.numel()):
        return delta.clone() if kept else torch.zeros_like(delta)
    smallest = sizes.kthvalue(len(sizes) - kept + 1).values
    keep, equal = sizes > smallest, (sizes == smallest).nonzero()[:, 0]
    keep[equal[: kept - int(keep.sum())]] = True
    return torch.where(keep.view_as(delta), delta, torch.zeros_like(delta))


def ties_merge(
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    divisor: Literal["count", "weight"] = "count",
) -> torch.Tensor:
    """TIES: trim each delta, elect a sign for each entry, merge the entries that have it (Yadav et al. 2023, arXiv 2306.01708).

    The sign is that of the sum over the trimmed deltas, + where it is 0. Entries that are 0 are not counted.

    Args:
        deltas: Deltas of one shape.
        weights: One for each delta.
        density: The share of entries of each delta that is kept, 0 to 1.
        divisor: By what the sum of the weighted entries that have the sign is divided: `count`, their number, as in peft;
            `weight`, the sum of their weights, as in mergekit. With weights of 1 both are the same. The vote is without weights,
            as in peft; mergekit's is with weights.

    Raises:
        ValueError: numbers of deltas and weights differ, or another divisor or density.
    """
    if divisor not in ("count", "weight"):
        raise ValueError(f"the divisor of TIES is count or weight, not {divisor!r}")
    functions, trimmed = _peft(), _stack([magnitude_trim(delta, density) for delta in deltas], weights)
    factors, agreeing = _factors(trimmed, weights), functions.calculate_majority_sign_mask(trimmed)
    if divisor == "count":
        return functions.disjoint_merge(trimmed * factors, agreeing)
    total = (factors * agreeing).sum(0)
    return (trimmed * factors * agreeing).sum(0) / torch.where(total == 0, torch.ones_like(total), total)


def task_arithmetic(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The weighted sum of deltas of one shape (Ilharco et al. 2022, arXiv 2212.04089); peft's `linear` on whole deltas.

    Raises ValueError if numbers of deltas and weights differ.
    """
    stacked = _stack(deltas, weights)
    return _peft().task_arithmetic(list(stacked), stacked.new_tensor(list(weights)))


def dare(
    delta: torch.Tensor, density: float, keep_mask: torch.Tensor | None = None, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Entries drawn at random, divided by the share that is drawn, 0 elsewhere (DARE, Yu et al. 2023, arXiv 2311.03099).
    Its only source is the paper.

    Args:
        delta: What a training changed.
        density: The probability that an entry is kept, above 0; the paper's drop rate is 1 - density.
        keep_mask: Which entries are kept, in the delta's shape; None: they are drawn.
        generator: A CPU generator that draws, the same on every device; peft draws from the global one.

    Raises:
        ValueError: another density, or neither a mask nor a generator.
    """
    _check_density(density)
    if not density:
        raise ValueError("DARE divides by the density: it must be above 0")
    delta = at_least_fp32(delta)
    if keep_mask is None:
        if generator is None:
            raise ValueError("DARE draws the entries that are kept: pass keep_mask or a generator")
        keep_mask = (torch.rand(delta.shape, generator=generator, dtype=torch.float32) < density).to(delta.device)
    return torch.where(keep_mask.bool(), delta / density, torch.zeros_like(delta))


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """[sin((1 - t) w) a + sin(t w) b] / sin w, w the angle between two deltas of one shape (Shoemake 1985).

    Its only source is the paper. At t = 0 it is a, at t = 1 it is b. If the angle is 0 or pi to the precision of the dtype, or a delta is 0, the arc
    is not unique: the result is (1 - t) a + t b.
    """
    a, b = at_least_fp32(a), at_least_fp32(b)
    lengths = [torch.linalg.vector_norm(delta) for delta in (a, b)]
    if not all(float(length) for length in lengths):
        return torch.lerp(a, b, t)
    first, second = (delta / length for delta, length in zip((a, b), lengths, strict=True))
    # atan2 is exact for angles near 0, where the arc cosine of the product loses half of the digits (Kahan)
    angle = 2 * torch.atan2(torch.linalg.vector_norm(first - second), torch.linalg.vector_norm(first + second))
    sine, edge = torch.sin(angle), 8 * torch.finfo(a.dtype).eps
    if float(sine) < edge:
        return torch.lerp(a, b, t)
    return torch.sin((1 - t) * angle) / sine * a + torch.sin(t * angle) / sine * b


def soft_threshold(delta: torch.Tensor, threshold: float) -> torch.Tensor:
    """sign(d) max(0, |d| - threshold): the proximal step of an L1 penalty of that weight times the step size; it yields exact zeros."""
    return torch.sign(delta) * torch.relu(delta.abs() - threshold)


def l1_penalty(parameters: Iterable[torch.Tensor], lam: float) -> torch.Tensor:
    """lam times the sum of magnitudes of all entries, a scalar with gradients, 0 at 0; fp32 or wider.

    PAFT's penalty (arXiv 2406.17923). On the factors of an adapter it is not the penalty on their product.
    """
    sums = [at_least_fp32(entries).abs().sum() for entries in parameters]
    return lam * torch.stack(sums).sum() if sums else torch.zeros(())


def sparsity(deltas: Iterable[torch.Tensor], tolerance: float = TOLERANCE) -> float | None:
    """The share of entries of some deltas with a magnitude of at most `tolerance`; None if there are no entries."""
    counts = [(int((delta.abs() <= tolerance).sum()), delta.numel()) for delta in deltas]
    return _share(sum(near for near, _ in counts), sum(entries for _, entries in counts))


def sign_conflict_rate(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], tolerance: float = 0.0) -> float | None:
    """Of the entries that both trainings changed, the share that they moved in opposite directions; None if there are none.

    Args:
        pairs: For each matrix the two deltas, of one shape.
        tolerance: An entry whose magnitude is at most this much was not changed.
    """
    conflicts = changed = 0
    for first, second in pairs:
        both = (first.abs() > tolerance) & (second.abs() > tolerance)
        conflicts += int((both & (first.sign() != second.sign())).sum())
        changed += int(both.sum())
    return _share(conflicts, changed)


def cosine(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """The cosine of the angle between two trainings' changes, over all matrices as one vector; None if either changed nothing.

    Args:
        pairs: For each matrix the two deltas, of one shape; summed in fp64.
    """
    product = first_square = second_square = 0.0
    for first, second in pairs:
        a, b = first.double().flatten(), second.double().flatten()
        product, first_square, second_square = (
            product + float(a @ b),
            first_square + float(a @ a),
            second_square + float(b @ b),
        )
    return product / (first_square**0.5 * second_square**0.5) if first_square and second_square else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _check_density(density: float) -> None:
    if not 0 <= density <= 1:
        raise ValueError(f"a density is between 0 and 1, not {density}")


def _stack(deltas: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    if len(deltas) != len(weights) or not deltas:
        raise ValueError(f"a merge takes one weight for each delta, not {len(weights)} for {len(deltas)}")
    return torch.stack([at_least_fp32(delta) for delta in deltas])


def _factors(stacked: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """(deltas, 1, ...): the weights, in a shape that broadcasts over the stacked deltas."""
    return stacked.new_tensor(list(weights)).view(-1, *[1] * (stacked.ndim - 1))


def _peft() -> Any:
    try:
        from peft.utils import merge_utils
    except ImportError:
        raise ModelError("merges need peft", where="merge", do="pip install 'alignflow[lora]'") from None
    return merge_utils
