"""A cache that grows in place holds what the stock one holds."""

import torch
from transformers.cache_utils import DynamicLayer

from alignflow.models.generation.kv_cache import RoomyLayer


def states(seed, new):
    made = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, new, 4, generator=made), torch.randn(2, 3, new, 4, generator=made)


def test_tokens_are_appended_as_by_the_stock_cache():
    ours, stock = RoomyLayer(4), DynamicLayer()
    for step, new in enumerate((5, 1, 1, 1, 1, 1, 3)):
        for mine, theirs in zip(ours.update(*states(step, new)), stock.update(*states(step, new)), strict=True):
            assert torch.equal(mine, theirs)


def test_within_its_room_it_copies_nothing():
    layer = RoomyLayer(8)
    before = layer.update(*states(0, 3))[0].data_ptr()
    assert layer.update(*states(1, 1))[0].data_ptr() == before


def test_rows_that_were_selected_in_between_are_kept():
    ours, stock = RoomyLayer(8), DynamicLayer()
    for layer in (ours, stock):
        layer.update(*states(0, 3))
        layer.batch_select_indices(torch.tensor([1]))
    new = [state[:1] for state in states(1, 1)]
    assert torch.equal(ours.update(*new)[0], stock.update(*new)[0])
