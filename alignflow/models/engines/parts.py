"""A sharded training state: each process writes its shard, and loads its new one if the number of processes changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from alignflow.models.engines import group

MOMENTS = ("exp_avg", "exp_avg_sq")
STEPS = "steps"


@dataclass(frozen=True)
class TensorSlice:
    """A range of a flattened tensor.

    Attributes:
        values: (n,) fp32, in the engine's own memory: copy before changing the engine.
        start: Where it begins in the flattened tensor.
        shape: Shape of the whole tensor.
    """

    values: torch.Tensor
    start: int
    shape: tuple[int, ...]


Parts = dict[str, TensorSlice]
"""`weights/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME` of trainable parameters, and `steps`, the optimizer's count."""

Read = Callable[[str, int, int], torch.Tensor]
"""Name, start and stop -> those elements of the flattened tensor, (stop - start,) fp32 on the CPU."""


def steps_part(steps: float) -> Parts:
    """The optimizer's count of steps; one process gives it for all."""
    return {STEPS: TensorSlice(torch.tensor([steps], dtype=torch.float32), 0, (1,))} if group.is_main() else {}
