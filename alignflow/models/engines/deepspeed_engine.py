"""DeepSpeed ZeRO around a model: fp32 master weights, our own denominators, no compiled operators, no pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("LOCAL_RANK", "0")  # read while deepspeed is imported and initialised

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Runtime
from alignflow.models.engines import group
from alignflow.models.engines.base import MOMENTS, make_optimizer


class DeepSpeedEngine:
    """One process under ZeRO; bf16 is autocast over fp32 weights, so that an artifact is fp32 either way."""

    def __init__(self, model: torch.nn.Module, config: TrainingConfig, runtime: Runtime):
        join_process_group(runtime)
        optimizer = make_optimizer(model, config)
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(config, runtime))
        self._zero: Any = self._engine.optimizer

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a scalar loss; the caller divided it by the denominator of the whole step."""
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear; returns the norm before clipping."""
        for parameters in self._zero.param_groups:
            parameters["lr"] = learning_rate
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and optimizer state as CPU tensors, whole whatever the ZeRO stage."""
        state: dict[str, torch.Tensor] = {}
        self._link_optimizer_state()
        for name, parameter in self._trainable().items():
            state[f"weights/{name}"] = _copy(safe_get_full_fp32_param(parameter))
            for moment in MOMENTS:
                state[f"{moment}/{name}"] = _copy(safe_get_full_optimizer_state(parameter, moment))
        steps = next(iter(self._zero.optimizer.state.values()))["step"]
        return {**state, "steps": torch.as_tensor(steps).float().clone()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what `state` returned; the optimizer's state is made first, as the first step would make it."""
        for flat in self._zero.single_partition_of_fp32_groups:
            moments = {moment: torch.zeros_like(flat) for moment in MOMENTS}
            self._zero.optimizer.state[flat] = {"step": state["steps"].clone().float(), **moments}
        self._link_optimizer_state()
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                parameter.copy_(state[f"weights/{name}"])
                safe_set_full_fp32_param(parameter, state[f"weights/{name}"].to(parameter.device))
                for moment in MOMENTS:
                    safe_set_full_optimizer_state(parameter, state[f"{moment}/{name}"].to(parameter.device), moment)

    def close(self) -> None:
        """Give back what DeepSpeed holds."""
        self._engine.destroy()

    def _link_optimizer_state(self) -> None:
        """Link parameters to their slices of the optimizer's state, for all groups.

        DeepSpeed 0.19.8 does this once, after the first group's first step: the state of later groups is missing then.
        """
        self._zero._hp_optimizer_states_linked = False
        self._zero._lazy_init_hp_params_optimizer_state()

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: parameter for name, parameter in self._engine.module.named_parameters() if parameter.requires_grad}


def join_process_group(runtime: Runtime) -> None:
    """Join the group, with no operator that is compiled at start: a killed build would hang all later runs."""
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    group.join(runtime)


def deepspeed_config(config: TrainingConfig, runtime: Runtime) -> dict[str, Any]:
    """The DeepSpeed configuration: any number of backward calls, and `step` is the boundary."""
    found: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # nominal: micro-batches are counted in tokens, by us
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "zero_optimization": {"stage": runtime.zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "gradient_clipping": config.max_grad_norm,
        "steps_per_print": 10**9,
    }
    if runtime.precision == "bf16":
        found["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return found


def _copy(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    return tensor.detach().cpu().contiguous().clone()
