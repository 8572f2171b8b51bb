"""Parameters of which each process may hold a part alone (ZeRO 3): read and written without importing DeepSpeed."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from alignflow.models.engines import group

PINNED = -1  # stands among the submodules that use a parameter, so that none of them lets it go


def is_partitioned(parameter: torch.Tensor) -> bool:
    """Whether each process holds a part of this parameter alone, or did when it was not in use."""
    return getattr(parameter, "ds_tensor", None) is not None


def shape_of(parameter: torch.Tensor) -> torch.Size:
    """The parameter's own shape, wherever its values are."""
    return torch.Size(parameter.ds_shape) if is_partitioned(parameter) else parameter.shape


@contextlib.contextmanager
def gathered(parameters: Sequence[Any]) -> Iterator[None]:
    """Have these parameters whole inside; every process must come here, with the same ones."""
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
    """Have a whole model inside, which each process may run as often as it likes; every process must come here.

    The model's modules neither gather nor let go what they use meanwhile: processes that decode run it a different number
    of times, and one that gathered by itself would wait for the others for good. Nothing to do if no parameter is partitioned.
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
    """Set a parameter to `values`, of its own shape; where it is partitioned, each process keeps its part, and none asks another."""
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
    """A flat view of the values that this process holds: all of them, or of a parameter that is partitioned its own range."""
    if not is_partitioned(parameter):
        return parameter.detach().view(-1)
    start, stop = own_range(parameter)
    return parameter.ds_tensor.narrow(0, 0, stop - start)


@contextlib.contextmanager
def exchanged(parameters: Sequence[Any], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """Have the parameters hold other values inside, and `values` theirs: nothing is held twice. Every process must come here.

    Args:
        parameters: In any order; none may take a step inside.
        values: For each what `own_part` has, of the same shape and on the same device.
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
    """Have those that are whole in every process take up the parts that changed."""
    present = [parameter for parameter in parameters if parameter.ds_status.name == "AVAILABLE"]
    if not present:
        return
    users = [set(parameter.ds_active_sub_modules) for parameter in present]
    for parameter in present:
        parameter.ds_active_sub_modules.clear()  # one that is in use is not let go
    present[0].partition(param_list=present, has_been_updated=False)
    present[0].all_gather(param_list=present)
    for parameter, modules in zip(present, users, strict=True):
        parameter.ds_active_sub_modules.update(modules)


def head_parameters(model: Any) -> list[Any]:
    """Parameters that are used outside the backbone: those of the head, and the embedding that a tied head shares.

    How often a head is called depends on the number of tokens that count, which differs between processes; so under
    ZeRO 3 it must not be gathered by each call.
    """
    backbone = getattr(model, "base_model", model)
    inside = {id(parameter) for parameter in backbone.parameters()}
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = {id(parameter): parameter for parameter in (output.parameters() if output is not None else ())}
    found |= {id(parameter): parameter for parameter in model.parameters() if id(parameter) not in inside}
    return list(found.values())


def pin(parameters: Sequence[Any]) -> None:
    """Have these parameters whole in every process until `pin` is called again, which takes up what changed meanwhile."""
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
