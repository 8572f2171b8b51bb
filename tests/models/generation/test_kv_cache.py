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


def test_a_line_takes_another_prompt_at_its_right_end():
    layer, prompt = RoomyLayer(8), DynamicLayer()
    layer.update(*states(0, 5))
    before = layer.keys.clone()
    keys, values = prompt.update(*states(1, 3))
    layer.place(torch.tensor([1]), prompt, torch.tensor([0]), (2, 5))
    assert torch.equal(layer.keys[1, :, 2:], keys[0]) and torch.equal(layer.values[1, :, 2:], values[0])
    assert torch.equal(layer.keys[0], before[0]) and torch.equal(layer.keys[1, :, :2], before[1, :, :2])


def test_an_empty_layer_takes_prompts_between_zeros():
    layer, prompt = RoomyLayer(8), DynamicLayer()
    keys, _ = prompt.update(*states(1, 3))
    layer.place(torch.tensor([2, 0]), prompt, torch.tensor([0, 1]), (3, 5))
    assert layer.keys.shape == (3, 3, 5, 4) and not layer.keys[1].any() and not layer.keys[:, :, :2].any()
    assert torch.equal(layer.keys[2, :, 2:], keys[0]) and torch.equal(layer.keys[0, :, 2:], keys[1])


def test_what_is_dropped_at_the_left_does_not_come_back():
    ours, stock = RoomyLayer(8), DynamicLayer()
    for layer in (ours, stock):
        layer.update(*states(0, 5))
    ours.drop_left(2)
    stock.keys, stock.values = stock.keys[:, :, 2:], stock.values[:, :, 2:]
    for mine, theirs in zip(ours.update(*states(1, 1)), stock.update(*states(1, 1)), strict=True):
        assert torch.equal(mine, theirs)
