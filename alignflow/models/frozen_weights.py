"""Frozen matrices in bf16 if the model multiplies in bf16 anyway: less than half the memory, and the same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.nn.functional import linear

from alignflow.data.run import Runtime
from alignflow.models.engines.partitioned import is_partitioned


class FrozenLinear(torch.nn.Linear):
    """A linear layer with frozen bf16 weights in a model that otherwise has fp32 weights.

    Under autocast it gives the same numbers as fp32 weights, which autocast rounds to bf16 in every pass. Without autocast it multiplies in the
    dtype of its input.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., out) of (..., in)."""
        if torch.is_autocast_enabled(input.device.type):
            return linear(input, self.weight, self.bias)
        return linear(input, self.weight.to(input.dtype), None if self.bias is None else self.bias.to(input.dtype))


def keep_in_bf16(model: Any, runtime: Runtime) -> int:
    """Convert the frozen linear layers of `model` to bf16, in place, if the runtime's precision is bf16.

    For models in inference only, and for the base of an adapter; never for a model that is saved or trained later.
    These stay unchanged: trainable parameters, a head that is tied to the embeddings, a reward model's head, which also computes
    outside of autocast, modules that transformers keeps in fp32, and the whole model if it is partitioned (ZeRO 3).

    Returns:
        The number of weights that were converted.
    """
    if runtime.precision != "bf16" or any(is_partitioned(parameter) for parameter in model.parameters()):
        return 0
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    kept = (*(getattr(model, "_keep_in_fp32_modules", None) or ()), "score")
    converted = 0
    for name, module in list(model.named_modules()):
        own = list(module.parameters(recurse=False))
        plain = type(module) is torch.nn.Linear and all(uses[id(parameter)] == 1 for parameter in own)
        if plain and not any(parameter.requires_grad for parameter in own) and not set(kept) & set(name.split(".")):
            model.set_submodule(name, _converted(module))
            converted += sum(parameter.numel() for parameter in own)
    return converted


def _converted(module: torch.nn.Linear) -> FrozenLinear:
    found = FrozenLinear(module.in_features, module.out_features, module.bias is not None, device="meta")
    for name, parameter in module.named_parameters(recurse=False):
        setattr(found, name, torch.nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False))
    return found.train(module.training)
