"""Plain torch: tests compare DeepSpeed with it, and it is the engine if DeepSpeed is not installed."""

from __future__ import annotations

from typing import Any

import torch

from alignflow.data.configs.training import TrainingConfig
from alignflow.data.run import Runtime
from alignflow.models.engines.base import make_optimizer
from alignflow.models.engines.parts import MOMENTS, STEPS, Parts, Read, TensorSlice, steps_part


class TorchEngine:
    """AdamW over fp32 weights."""

    def __init__(self, model: torch.nn.Module, config: TrainingConfig, runtime: Runtime):
        self._model = model
        self._place = {"device": runtime.device, "micro_batch_tokens": runtime.micro_batch_tokens}
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

    def parts(self) -> Parts:
        """Weights and optimizer state, whole."""
        parts: Parts = {}
        steps = 0.0
        for name, parameter in self._trainable().items():
            known = self._optimizer.state.get(parameter, {})
            steps = float(known.get("step", steps))
            values = {"weights": parameter.detach()}
            values |= {moment: known[moment] if moment in known else torch.zeros_like(parameter) for moment in MOMENTS}
            parts |= {
                f"{kind}/{name}": TensorSlice(value.flatten(), 0, tuple(parameter.shape))
                for kind, value in values.items()
            }
        return {**parts, **steps_part(steps)}

    def load_parts(self, read: Read) -> None:
        """Load what `parts` returned."""
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                values = {
                    kind: read(f"{kind}/{name}", 0, parameter.numel()).view_as(parameter)
                    for kind in ("weights", *MOMENTS)
                }
                parameter.copy_(values.pop("weights"))
                moments = {moment: value.to(parameter.device) for moment, value in values.items()}
                self._optimizer.state[parameter] = {
                    "step": read(STEPS, 0, 1)[0].clone().to(parameter.device),
                    **moments,
                }

    def description(self) -> dict[str, Any]:
        """One process, no ZeRO; device and token budget."""
        return {"engine": "torch", **self._place}

    def close(self) -> None:
        """Drop optimizer state and gradients."""
        self._optimizer.state.clear()
        self._model.zero_grad(set_to_none=True)

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: parameter for name, parameter in self._model.named_parameters() if parameter.requires_grad}
