"""Where and how a stage computes, as far as memory depends on it, and what it then needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GIB, MIB = 2**30, 2**20
FP32, BF16 = 4, 2  # bytes

Parts = Mapping[str, float]
"""Part of the memory (weights, gradients, optimizer, buffers, activations, logits, frozen, cache, base) -> bytes."""


Offload = Literal["none", "optimizer", "all"]


@dataclass(frozen=True)
class Place:
    """How the processes of a stage share the work.

    Attributes:
        device: Where the model lies; with `cpu` all processes of a node share one memory.
        precision: bf16 is autocast: weights and gradients stay fp32, products and what they keep are bf16.
        engine: torch (one process) or deepspeed.
        zero_stage: DeepSpeed ZeRO stage: 1 shares the optimizer's state out, 2 gradients too, 3 weights too.
        processes: Processes over all nodes; each has its own device.
        nodes: Machines that they stand on, in equal numbers.
        offload: What waits in the machine's memory beside a GPU: the optimizer's state (ZeRO-Offload, Ren et al. 2021,
            arXiv 2101.06840), or under ZeRO 3 all weights too, those of frozen models included.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    engine: Literal["torch", "deepspeed"] = "deepspeed"
    zero_stage: int = 1
    processes: int = 1
    nodes: int = 1
    offload: Offload = "none"

    @property
    def processes_per_node(self) -> int:
        """Processes that share a machine's memory."""
        return -(-self.processes // self.nodes)

    @property
    def gathers(self) -> bool:
        """Whether weights are cut over the processes, and gathered layer by layer: ZeRO 3."""
        return self.engine == "deepspeed" and self.zero_stage == 3

    @property
    def shares(self) -> int:
        """Into how many parts weights are cut."""
        return self.processes if self.gathers else 1


@dataclass(frozen=True)
class Phase:
    """What one process holds on its device at one time.

    Attributes:
        name: What it is doing.
        parts: Bytes of each part.
    """

    name: str
    parts: Parts

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Need:
    """What one process needs over a stage.

    Attributes:
        phases: On its device, one after the other.
        host: In the machine's memory beside that, where the device is a GPU: bytes of each part.
    """

    phases: tuple[Phase, ...]
    host: Parts = field(default_factory=dict)

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def host_total(self) -> float:
        """Bytes of the machine's memory for one process."""
        return sum(self.host.values())


def add(*parts: Parts) -> dict[str, float]:
    """The sums of the parts; what is nothing is left out."""
    names = dict.fromkeys(name for part in parts for name in part)
    sums = {name: sum(part.get(name, 0) for part in parts) for name in names}
    return {name: value for name, value in sums.items() if value}
