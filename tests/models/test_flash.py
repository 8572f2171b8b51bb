"""Segments as the kernel for packed rows takes them."""

import pytest
import torch

from alignflow.models import flash
from alignflow.models.batching import EncodedRow, pack


def segments():
    rows = [EncodedRow((1, 2, 3), (4, 5)), EncodedRow((1, 2, 3), (6,)), EncodedRow((7,), (8,))]
    packed = pack(rows, torch.device("cpu"))
    return packed, sorted((found for found in packed.segments if found.length), key=lambda found: found.start)


@pytest.mark.parametrize("usable", [True, False])
def test_queries_lie_as_they_are_and_keys_come_with_their_prefix_first(monkeypatch, usable):
    monkeypatch.setattr(flash, "available", lambda device: usable)
    packed, found = segments()
    laid = flash.varlen(found, torch.device("cpu"))
    if not usable:
        assert laid is None
        return
    tensors = [value for value in vars(laid).values() if isinstance(value, torch.Tensor)]
    total, keys = sum(each.length for each in found), sum(each.total for each in found)
    assert any(value.tolist()[-1:] == [total] for value in tensors) and any(len(value) == keys for value in tensors)


def test_a_processor_without_the_kernel_does_without():
    assert flash.available(torch.device("cpu")) is False
