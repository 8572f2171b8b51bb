"""Plain torch: the twin that the tests measure DeepSpeed against, and the engine where DeepSpeed is not installed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Runtime
from alignflow.models.engines.base import MOMENTS, make_optimizer


class TorchEngine:
    """AdamW over fp32 weights."""

    def __init__(self, model: torch.nn.Module, config: TrainingConfig, runtime: Runtime):
        self._model = model
        self._clip = config.max_grad_norm
        self._optimizer = make_optimizer(model, config)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a scalar loss."""
        loss.backward()

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear; returns the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._trainable().values(), self._clip or float("inf"))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and optimizer state as CPU tensors."""
        state, steps = {}, 0.0
        for name, parameter in self._trainable().items():
            state[f"weights/{name}"] = parameter.detach().cpu().clone()
            known = self._optimizer.state.get(parameter, {})
            steps = float(known.get("step", steps))
            for moment in MOMENTS:
                value = known.get(moment, torch.zeros_like(parameter))
                state[f"{moment}/{name}"] = value.detach().cpu().clone()
        return {**state, "steps": torch.tensor(steps)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what `state` returned."""
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                parameter.copy_(state[f"weights/{name}"])
                moments = {moment: state[f"{moment}/{name}"].to(parameter.device).clone() for moment in MOMENTS}
                self._optimizer.state[parameter] = {"step": state["steps"].clone().float(), **moments}

    def close(self) -> None:
        """Drop optimizer state and gradients."""
        self._optimizer.state.clear()
        self._model.zero_grad(set_to_none=True)

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: parameter for name, parameter in self._model.named_parameters() if parameter.requires_grad}
