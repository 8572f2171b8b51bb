"""Gradient checkpointing: the activations of each layer are recomputed in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from alignflow.data.errors import ModelError


def recompute_layers(model: torch.nn.Module) -> None:
    """Make each layer of `model` keep only its input for the backward pass (Chen et al. 2016, arXiv 1604.06174).

    transformers does this only in training mode, and our models stay in evaluation mode to have no dropout; so
    the layers' `forward` is wrapped here, once. Gradients are the same.

    Raises:
        ModelError: the architecture does not mark its layers.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no layers that can be checkpointed",
            where="gradient_checkpointing",
            do="set it to false",
        )
    for layer in layers:
        if "forward" not in vars(layer):
            layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def forward_without_keeping(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        context = copy_context()  # the backward pass runs later, perhaps in another thread, and needs the rows' layout

        def run(*again: Any) -> Any:
            return context.copy().run(forward, *again, **named)

        return checkpoint(run, *arguments, use_reentrant=False)

    return forward_without_keeping
