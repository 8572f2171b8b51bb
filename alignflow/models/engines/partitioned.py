"""Reads and writes parameters that may be partitioned over the processes (ZeRO 3), without importing DeepSpeed."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from alignflow.models.engines import group

PINNED = -1  # an entry among the submodules that use a parameter, so that none of them releases it


def is_partitioned(parameter: torch.Tensor) -> bool:
    """Whether this parameter is partitioned, even if it is gathered now."""
    return getattr(parameter, "ds_tensor", None) is not None


def shape_of(parameter: torch.Tensor) -> torch.Size:
    """The parameter's full shape, partitioned or not."""
    return torch.Size(parameter.ds_shape) if is_partitioned(parameter) else parameter.shape


@contextlib.contextmanager
def gathered(parameters: Sequence[Any]) -> Iterator[None]:
    """A context in which these parameters are gathered; every process must enter it, with the same parameters."""
    absent = [
        parameter
        for parameter in parameters
        if is_partitioned(parameter) and parameter.ds_status.name == "NOT_AVAILABLE"
    ]
    if absent:
        absent[0].all_gather(param_list=absent)
    try:
        yield
    finally:
        if absent:
            absent[0].partition(param_list=absent, has_been_updated=False)


@contextlib.contextmanager
def whole(model: Any) -> Iterator[None]:
    """A context in which a whole model is gathered, so that each process may run it any number of times; every process must enter it.

    The model's modules neither gather nor release parameters meanwhile: processes that decode run it a different number
    of times, and a process that gathered alone would wait for the others forever. Does nothing if no parameter is partitioned.
    """
    parameters = list(model.parameters())
    if not any(is_partitioned(parameter) for parameter in parameters):
        yield
        return
    modules = list(model.modules())
    hooks = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    with gathered(parameters):
        for module in modules:
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        try:
            yield
        finally:
            for module, (before, after) in zip(modules, hooks, strict=True):
                module._forward_pre_hooks, module._forward_hooks = before, after


@torch.no_grad()
def fill(parameter: Any, values: torch.Tensor) -> None:
    """Set a parameter to `values`, of its full shape; if it is partitioned, each process keeps its part, without communication."""
    if not is_partitioned(parameter):
        parameter.copy_(values)
        return
    start, stop = own_range(parameter)
    own = parameter.ds_tensor
    own.zero_()
    own.narrow(0, 0, stop - start).copy_(values.flatten()[start:stop])


def own_range(parameter: Any) -> tuple[int, int]:
    """Which elements of the flattened parameter this process holds; the last process's may be fewer, or none."""
    part = parameter.partition_numel()
    return tuple(min(number * part, parameter.ds_numel) for number in (group.rank(), group.rank() + 1))


def own_part(parameter: Any) -> torch.Tensor:
    """A flat view of the values that this process holds: all of them, or its range of a partitioned parameter."""
    if not is_partitioned(parameter):
        return parameter.detach().view(-1)
    start, stop = own_range(parameter)
    return parameter.ds_tensor.narrow(0, 0, stop - start)


@contextlib.contextmanager
def exchanged(parameters: Sequence[Any], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """A context in which the parameters and `values` are swapped, so that nothing is copied. Every process must enter it.

    Args:
        parameters: In any order; no optimizer step may update them inside.
        values: For each parameter a tensor of the shape and on the device of its `own_part`.
    """
    _exchange(parameters, values)
    try:
        yield
    finally:
        _exchange(parameters, values)


@torch.no_grad()
def _exchange(parameters: Sequence[Any], values: Sequence[torch.Tensor]) -> None:
    for parameter, other in zip(parameters, values, strict=True):
        own = own_part(parameter)
        kept = own.clone()
        own.copy_(other)
        other.copy_(kept)
    _renew([parameter for parameter in parameters if is_partitioned(parameter)])


def _renew(parameters: Sequence[Any]) -> None:
    """Update the parameters that are gathered in every process from the parts that changed."""
    present = [parameter for parameter in parameters if parameter.ds_status.name == "AVAILABLE"]
    if not present:
        return
    users = [set(parameter.ds_active_sub_modules) for parameter in present]
    for parameter in present:
        parameter.ds_active_sub_modules.clear()  # a parameter in use is not released
    present[0].partition(param_list=present, has_been_updated=False)
    present[0].all_gather(param_list=present)
    for parameter, modules in zip(present, users, strict=True):
        parameter.ds_active_sub_modules.update(modules)


def head_parameters(model: Any) -> list[Any]:
    """Parameters that are used outside the backbone: those of the head, and the embedding that a tied head shares.

    How often a head is called depends on the number of tokens that count, which differs between processes; so under
    ZeRO 3 a call must not gather it.
    """
    backbone = getattr(model, "base_model", model)
    inside = {id(parameter) for parameter in backbone.parameters()}
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = {id(parameter): parameter for parameter in (output.parameters() if output is not None else ())}
    found |= {id(parameter): parameter for parameter in model.parameters() if id(parameter) not in inside}
    return list(found.values())


def pin(parameters: Sequence[Any]) -> None:
    """Keep these parameters gathered in every process until `pin` is called again, which loads what changed meanwhile."""
    held = [parameter for parameter in parameters if is_partitioned(parameter)]
    for parameter in held:
        parameter.ds_active_sub_modules.discard(PINNED)
    present = [parameter for parameter in held if parameter.ds_status.name == "AVAILABLE"]
    if present:
        present[0].partition(param_list=present, has_been_updated=False)
    if held:
        held[0].all_gather(param_list=held)
    for parameter in held:
        parameter.ds_active_sub_modules.add(PINNED)
