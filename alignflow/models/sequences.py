"""Figures per token in two shapes: flat (all rows end to end, N tokens) and padded (rows, time), with masks from lengths."""

from __future__ import annotations

import torch


def length_mask(lengths: torch.Tensor) -> torch.Tensor:
    """(rows, longest) bool: True on the first `lengths` places of each row; never derived from the tokens themselves."""
    longest = int(lengths.max()) if len(lengths) else 0
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


def padded(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Flat values (N,) in the shape (rows, longest); places past a row's end are 0."""
    mask = length_mask(lengths)
    grid = values.new_zeros(mask.shape)
    grid[mask] = values
    return grid


def flattened(grid: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The values (N,) of a padded grid (rows, longest), row after row."""
    return grid[length_mask(lengths)]


def row_numbers(lengths: torch.Tensor) -> torch.Tensor:
    """(N,) int64: the row of each token of the flat shape."""
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def token_places(lengths: torch.Tensor) -> torch.Tensor:
    """(N,) int64: the place of each token of the flat shape in its row, from 0."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(starts, lengths)


def prefix_sums(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(N,): for each token of flat values (N,) the sum over its row up to it, itself included."""
    return flattened(padded(values, lengths).cumsum(1), lengths)


def chosen_tokens(lengths: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Places in the flat shape of the tokens of `rows` (positions), in their order."""
    starts = lengths.cumsum(0) - lengths
    sizes = lengths[rows]
    within = torch.arange(int(sizes.sum()), device=lengths.device) - torch.repeat_interleave(
        sizes.cumsum(0) - sizes, sizes
    )
    return torch.repeat_interleave(starts[rows], sizes) + within
