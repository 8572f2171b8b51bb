"""DeepSpeed ZeRO around a model: fp32 master weights, denominators computed here, no compiled operators, no pickle."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed reads it when it is imported and initialised

import deepspeed
import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Runtime
from alignflow.models.engines import group
from alignflow.models.engines.base import make_optimizer
from alignflow.models.engines.partitioned import head_parameters, own_range, pin, shape_of
from alignflow.models.engines.parts import MOMENTS, STEPS, Parts, Read, TensorSlice, steps_part

_LINEAR = torch.nn.functional.linear
REDUCE_BUCKET = 500_000_000  # elements of a bucket that gradients are reduced in: DeepSpeed's default
PERSISTENT = 10_000  # elements of the largest parameter that ZeRO 3 does not partition: norms and biases

# The uses of DeepSpeed outside of its documented interface were checked and tested with 0.19.8.


class DeepSpeedEngine:
    """The processes of a stage under ZeRO; bf16 is autocast by the policy over fp32 weights, so that an artifact is fp32 either way."""

    def __init__(self, model: torch.nn.Module, config: TrainingConfig, runtime: Runtime):
        join_process_group(runtime)
        self._stage, self._offload = runtime.zero_stage, runtime.offload
        self._place = {"device": runtime.device, "micro_batch_tokens": runtime.micro_batch_tokens}
        optimizer = make_optimizer(model, config)
        settings = deepspeed_config(runtime, config.max_grad_norm)
        # DeepSpeed allocates the whole bucket, which for an adapter would be twenty times the size of its gradients.
        learnt = sum(math.prod(shape_of(parameter)) for parameter in model.parameters() if parameter.requires_grad)
        settings["zero_optimization"]["reduce_bucket_size"] = min(REDUCE_BUCKET, learnt)
        with _uncompiled():
            self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        self._zero: Any = self._engine.optimizer
        self._pin()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a scalar loss; the caller has divided it by the denominator of the whole step."""
        # What DeepSpeed's own forward does, which nothing here goes through: without it ZeRO 3 keeps the gradient of a
        # step's last micro-batch alone, and offloading takes each micro-batch for the last one.
        self._zero.clear_backward_seen_flag()
        self._zero.set_gradient_accumulation_boundary(False)
        # DeepSpeed averages over processes; here gradients must add up.
        self._engine.backward(loss * group.size() if group.size() > 1 else loss, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear; returns the norm before clipping."""
        for parameters in self._zero.param_groups:
            parameters["lr"] = learning_rate
        self._engine.step()
        self._pin()
        return float(self._engine.get_global_grad_norm())

    def parts(self) -> Parts:
        """This process's part of the fp32 weights and their moments; nothing is gathered."""
        parts: Parts = {}
        self._link_optimizer_state()
        for name, parameter in self._trainable().items():
            start, stop, values = self._own_state(parameter)
            if stop > start:
                parts |= {
                    f"{kind}/{name}": TensorSlice(value, start, tuple(shape_of(parameter)))
                    for kind, value in values.items()
                }
        return {
            **parts,
            **steps_part(
                max((float(state.get("step", 0)) for state in self._zero.optimizer.state.values()), default=0.0)
            ),
        }

    def load_parts(self, read: Read) -> None:
        """Load what `parts` returned; the optimizer's state is created first, as in the first step."""
        if self._stage == 3:
            self._zero.empty_partition_cache()
        for flat in self._flat_partitions():
            moments = {moment: torch.zeros_like(flat) for moment in MOMENTS}
            self._zero.optimizer.state[flat] = {"step": read(STEPS, 0, 1)[0].clone().to(flat.device), **moments}
        self._link_optimizer_state()
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                start, stop, values = self._own_state(parameter)
                for kind, value in values.items():
                    value.copy_(read(f"{kind}/{name}", start, stop))
                if self._stage == 3:
                    parameter.ds_tensor.narrow(0, 0, stop - start).copy_(read(f"weights/{name}", start, stop))
                else:
                    parameter.copy_(read(f"weights/{name}", 0, parameter.numel()).view_as(parameter))
        self._pin()

    def description(self) -> dict[str, Any]:
        """ZeRO stage, offloading, number of processes, device and token budget."""
        return {
            "engine": "deepspeed",
            "zero_stage": self._stage,
            "offload": self._offload,
            "processes": group.size(),
            **self._place,
        }

    def close(self) -> None:
        """Free what DeepSpeed holds."""
        self._engine.destroy()
        torch.nn.functional.linear = _LINEAR  # ZeRO 3 replaces it for the whole process

    def _pin(self) -> None:
        if self._stage == 3:
            pin(head_parameters(self._engine.module))

    def _flat_partitions(self) -> list[torch.Tensor]:
        """The tensors that the optimizer updates."""
        return (
            self._zero.fp32_partitioned_groups_flat if self._stage == 3 else self._zero.single_partition_of_fp32_groups
        )

    def _own_state(self, parameter: Any) -> tuple[int, int, dict[str, torch.Tensor]]:
        """Which elements of a parameter this process updates, and views of its weights and moments there."""
        if self._stage == 3:
            start, stop = own_range(parameter)
            values = {"weights": self._zero._get_fp32_opt_state_partition(parameter, True)[0]}
            flat = self._flat_partitions()[self._zero.grad_position[self._zero.get_param_id(parameter)][0]]
            for moment in MOMENTS:
                known = moment in self._zero.optimizer.state.get(flat, {})
                values[moment] = (
                    self._zero._get_fp32_opt_state_partition(parameter, True, moment)[0]
                    if known
                    else torch.zeros(stop - start)
                )
            return start, stop, {kind: value[: stop - start] for kind, value in values.items()}
        mapping = parameter._hp_mapping
        if mapping is None:
            return 0, 0, {}
        start, size = mapping.lp_fragment_address.start, mapping.lp_fragment_address.numel
        moments = {moment: mapping.optim_fragment.get(moment, torch.zeros(size)) for moment in MOMENTS}
        return start, start + size, {"weights": mapping.hp_fragment, **moments}

    def _link_optimizer_state(self) -> None:
        """Link parameters to their slices of the optimizer's state, for all groups.

        DeepSpeed 0.19.8 does this once, after the first group's first step: the state of later groups is then missing.
        """
        if self._stage == 3:
            return
        self._zero._hp_optimizer_states_linked = False
        self._zero._lazy_init_hp_params_optimizer_state()

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {
            name: parameter for name, parameter in self._engine.module.named_parameters() if parameter.requires_grad
        }


def join_process_group(runtime: Runtime) -> None:
    """Join the group, without operators that are compiled at start: a killed build would hang all later runs."""
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    group.join(runtime)


@contextlib.contextmanager
def partitioned_from_the_start(runtime: Runtime) -> Any:
    """A context in which each new module holds only this process's partition of its parameters (ZeRO 3)."""
    join_process_group(runtime)
    deepspeed.init_distributed(dist_init_required=False)
    with deepspeed.zero.Init(config_dict_or_path=deepspeed_config(runtime, 0.0)):
        yield


def share_out(model: Any, runtime: Runtime) -> None:
    """Make the modules of a frozen model gather their parameters for use and release them afterwards (ZeRO 3)."""
    join_process_group(runtime)
    model.requires_grad_(False)
    deepspeed.initialize(model=model, config=deepspeed_config(runtime.model_copy(update={"zero_stage": 3}), 0.0))
    pin(head_parameters(model))


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """A context in which torch.compile returns functions unchanged: loading the compiler for Muon, which is not offered, takes a second."""
    compile_, torch.compile = torch.compile, lambda function, *_, **__: function
    try:
        yield
    finally:
        torch.compile = compile_


def deepspeed_config(runtime: Runtime, max_grad_norm: float) -> dict[str, Any]:
    """The DeepSpeed configuration: any number of backward calls, and `step` is the boundary.

    Not `torch_autocast`: it would reduce gradients in bf16, and the result would depend on the number of processes.
    """
    zero: dict[str, Any] = {"stage": runtime.zero_stage, "stage3_param_persistence_threshold": PERSISTENT}
    if runtime.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if runtime.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # nominal: our micro-batches are measured in tokens
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "gradient_clipping": max_grad_norm,
        "steps_per_print": 10**9,
    }
