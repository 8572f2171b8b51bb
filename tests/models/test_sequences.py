"""Figures per token in the flat shape, by the lengths of their rows."""

import torch

from alignflow.models.sequences import prefix_sums, token_places

LENGTHS = torch.tensor([2, 0, 3])


def test_places_start_anew_with_each_row():
    assert token_places(LENGTHS).tolist() == [0, 1, 0, 1, 2]
    assert token_places(torch.tensor([], dtype=torch.long)).tolist() == token_places(torch.tensor([0])).tolist() == []


def test_sums_start_anew_with_each_row():
    assert prefix_sums(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), LENGTHS).tolist() == [1.0, 3.0, 4.0, 12.0, 28.0]
    assert prefix_sums(torch.zeros(0), torch.tensor([0])).tolist() == []
