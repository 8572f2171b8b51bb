"""Weights of rows in a loss: a row of weight 2 counts as the same row twice, in the sum and in the denominator."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def denominators(weight: torch.Tensor | None, count: int) -> list[float]:
    """(rows,): what each row adds to the denominator of an optimizer step; 1 if there are no weights."""
    return [1.0] * count if weight is None else weight.tolist()


def token_denominators(weight: torch.Tensor | None, tokens: Sequence[float]) -> Sequence[float]:
    """(rows,): what each row adds to the denominator of a loss over tokens: its tokens times its weight."""
    return tokens if weight is None else [number * each for number, each in zip(tokens, weight.tolist(), strict=True)]


def weighed(values: torch.Tensor, weight: torch.Tensor | None, rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """Losses of some rows, (n,), times their weights; the same tensor if there are no weights.

    Args:
        values: One loss for each of `rows`, in their order.
        weight: (all rows,) fp32, or None.
        rows: Positions of the rows.
    """
    if weight is None:
        return values
    places = rows if isinstance(rows, torch.Tensor) else torch.tensor(list(rows), dtype=torch.int64)
    own = weight[places].to(values)
    if own.shape != values.shape:
        raise ValueError(f"{len(own)} weights for losses of the shape {tuple(values.shape)}")
    return values * own
