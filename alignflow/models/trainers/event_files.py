"""Points of the training curves as TensorBoard event files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

from alignflow.data.run import Run
from alignflow.models.engines import group

DIRECTORY = "tensorboard"


class EventFiles:
    """Writes every point of the curves to `run.side`/tensorboard too, under the same names.

    Old files are removed, and the points in the curves so far are written first, so that a resumed run shows each once.
    """

    def __init__(self, run: Run):
        self._writer: Any = None
        self._run = run
        if not group.is_main():
            return
        from torch.utils.tensorboard import SummaryWriter  # imports for half a second, so only when a model trains

        directory, curves = run.side / DIRECTORY, run.side / "curves.jsonl"
        shutil.rmtree(directory, ignore_errors=True)
        self._writer = SummaryWriter(str(directory))
        for line in curves.read_text().splitlines() if curves.is_file() else ():
            point = json.loads(line)
            self._add(point.pop("step"), point)
        run.listeners.append(self._add)

    def _add(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a kill loses nothing, and a viewer sees it now

    def close(self) -> None:
        """Write the rest; later points go only to the curves."""
        if self._writer is not None:
            self._run.listeners.remove(self._add)
            self._writer.close()
            self._writer = None
