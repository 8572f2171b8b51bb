"""The interface of an engine for a trainer: gradients, a step, and a state that can be written and read back."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Runtime
from alignflow.data.shared_parts import ENGINES
from alignflow.models.engines.partitioned import shape_of
from alignflow.models.engines.parts import Parts, Read
from alignflow.models.recompute import recompute_layers


class Kept(Protocol):
    """The sharded part of a state on disk, one shard per process."""

    def parts(self) -> Parts:
        """The shard of this process."""

    def load_parts(self, read: Read) -> None:
        """Load a whole state; this process reads only its own shard."""

    def description(self) -> dict[str, Any]:
        """Settings that must be the same to continue from a state bit for bit; JSON."""


class Engine(Kept, Protocol):
    """Owns the optimizer. Gradients add up over `backward` calls, and over processes, until `step`; the caller scales the losses.

    A state holds the weights and the optimizer's state.
    """

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a scalar loss. All processes must call it the same number of times between two steps."""

    def step(self, learning_rate: float) -> float:
        """Clip, update at this learning rate, clear the gradients; returns their global norm before clipping."""

    def close(self) -> None:
        """Free everything but the model, which under ZeRO 3 can then be read but not run."""


BETAS = (0.9, 0.999)
EPSILON = 1e-8


def make_engine(model: torch.nn.Module, config: TrainingConfig, runtime: Runtime) -> Engine:
    """The engine that `runtime.engine` names, around a model that is on its device."""
    if config.gradient_checkpointing:
        recompute_layers(model)
    return ENGINES[runtime.engine].resolve()(model, config, runtime)


def share_out_frozen(model: torch.nn.Module, runtime: Runtime) -> None:
    """Partition a frozen model, gathered module by module, if `runtime` is DeepSpeed's ZeRO 3."""
    if runtime.gathers:
        importlib.import_module("alignflow.models.engines.deepspeed_engine").share_out(model, runtime)


def make_optimizer(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over all trainable parameters; weight decay only on matrices, as is usual.

    Fused: the others make temporaries as large as the parameter, and under ZeRO one parameter is the process's whole partition.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if len(shape_of(parameter)) >= 2]
    vectors = [parameter for parameter in parameters if len(shape_of(parameter)) < 2]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": config.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, eps=EPSILON, fused=True)
