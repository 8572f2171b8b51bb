"""The engine transformers for one prompt, with a callback for each drawn token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from alignflow.data.engine_hosts import end_idle_hosts
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.generation.transformers_generator import TransformersGenerator


class StreamingGenerator(TransformersGenerator):
    """Draws the same tokens as the engine, and reports each when the model reads it to draw the next one."""

    def __init__(self, path: Path, runtime: Runtime):
        if runtime.device == "cuda":
            end_idle_hosts()
        super().__init__(path, runtime)
        self._hear: Callable[[int], None] | None = None

    def stream(self, prompt: Sequence[int], sampling: Sampling, seed: int, hear: Callable[[int], None]) -> Generation:
        """The completion of one prompt; `hear` is called with each of its tokens except the last one, which is only in the result."""
        self._hear = hear
        try:
            return self.generate([prompt], sampling, [seed])[0]
        finally:
            self._hear = None

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        if self._hear is not None and tuple(ids.shape) == (1, 1) and mask.shape[1] > 1:  # otherwise it is the prompt
            self._hear(int(ids))
        return super()._forward(ids, mask, positions, cache)
