"""Training states on disk: safetensors and JSON, each committed by one rename, so that a kill loses no whole one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from alignflow.models.engines import group
from alignflow.models.engines.base import Engine

KEPT = 2
STATE = "state.json"


@dataclass(frozen=True)
class Saved:
    """What stands beside the engines' weights and optimizer states.

    Attributes:
        step: Steps that were done.
        extra: JSON: controllers, positions, whatever a trainer needs to go on.
        tensors: Named tensors of the trainer, for example a buffer of rollouts; each process has its own.
    """

    step: int
    extra: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


class SavedStates:
    """The states of one training in a directory: `step-00000012/` with one file per engine; the newest two are kept.

    Args:
        root: A directory that survives a kill and belongs to one cache key: another config, data or code version has
            another one.
    """

    def __init__(self, root: Path):
        self._root = root

    def save(
        self, step: int, engines: Mapping[str, Engine], extra: Mapping[str, Any] | None = None,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> None:  # fmt: skip
        """Commit the state after `step` steps, and drop all but the newest ones; every process must call it."""
        temporary, final = self._root / f".step-{step:08d}", self._root / f"step-{step:08d}"
        if group.is_main():
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        group.barrier()
        for name, engine in engines.items():
            state = engine.state()
            if group.is_main():
                save_file(state, temporary / f"{name}.safetensors")
        own = {**{f"tensor/{name}": value.contiguous() for name, value in (tensors or {}).items()}, "rng": torch.get_rng_state()}
        save_file(own, temporary / f"process-{group.rank():05d}.safetensors")
        group.barrier()
        if group.is_main():
            (temporary / STATE).write_text(json.dumps({"step": step, "processes": group.size(), "extra": dict(extra or {})}))
            for path in (*temporary.iterdir(), temporary):
                _sync(path)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temporary, final)
            _sync(self._root)
            for old in sorted(self._root.glob("step-*"))[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        group.barrier()

    def restore(self, engines: Mapping[str, Engine]) -> Saved | None:
        """Load the newest whole state into the engines; None where there is none."""
        for directory in sorted(self._root.glob("step-*"), reverse=True):
            try:
                state = json.loads((directory / STATE).read_text())
                loaded = {name: load_file(directory / f"{name}.safetensors") for name in engines}
                same = state["processes"] == group.size()
                own = load_file(directory / f"process-{group.rank() if same else 0:05d}.safetensors")
            except (OSError, ValueError, KeyError):
                continue
            for name, engine in engines.items():
                engine.load_state(loaded[name])
            torch.set_rng_state(own.pop("rng"))
            print(f"resumed after step {state['step']}", flush=True)
            if not same:
                print(f"it was saved by {state['processes']} processes: results are equal to rounding, not to the bit", flush=True)
            return Saved(state["step"], state["extra"], {name.removeprefix("tensor/"): value for name, value in own.items()})
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
