"""Training states on disk: safetensors and JSON, each committed by one rename, so that a kill loses no complete one.

A state is a directory in which every process writes its shard, `ENGINE-00000.safetensors` and so on: no process
holds the whole state. Any number of processes can read it, each its new shard. `seal.json` has the digest of every
file: a state whose bytes changed on disk is not loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alignflow.data.artifacts import file_digest
from alignflow.data.durable import sync
from alignflow.data.errors import StoreError
from alignflow.data.seals import DIRECTORY_SEAL, SealError, UnsealedError, directory_digests, seal_directory
from alignflow.models.engines import group
from alignflow.models.engines.base import Kept
from alignflow.models.engines.parts import Parts

KEPT = 2
STATE = "state.json"
PROCESS = "process"  # next to the names of engines


@dataclass(frozen=True)
class Saved:
    """The part of a state besides the engines' weights and optimizer states.

    Attributes:
        step: Number of finished steps.
        extra: JSON: controllers, positions, everything that a trainer needs to continue.
        tensors: Named tensors of the trainer, for example a buffer of rollouts; each process has its own. Empty if the
            state was saved by another number of processes.
    """

    step: int
    extra: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


class SavedStates:
    """The states of one training in a directory: `step-00000012/` and so on; the newest `kept` are kept.

    Args:
        root: A directory that survives a kill, and whose name is the cache key: another config, data or code version
            has another one. A state that was saved under another name is not loaded.
        warn: Gets warnings about a loaded state.
        note: Called when a damaged state is skipped: results do not depend on it.
        kept: How many are kept; None: all of them, until `forget`.
    """

    def __init__(
        self,
        root: Path,
        warn: Callable[[str], None] = print,
        note: Callable[[str], None] = print,
        kept: int | None = KEPT,
    ):
        self._root, self._warn, self._note, self._kept = root, warn, note, kept

    def save(
        self,
        step: int,
        engines: Mapping[str, Kept],
        extra: Mapping[str, Any] | None = None,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Commit the state after `step` steps, and drop all but the newest ones; every process must call it.

        Raises:
            StoreError: the disk has too little space; the earlier states are kept.
        """
        temporary, final = self._root / f".step-{step:08d}", self._root / f"step-{step:08d}"
        own = {
            **{f"tensor/{name}": value.contiguous() for name, value in (tensors or {}).items()},
            **generator_states(),
        }
        parts = {name: engine.parts() for name, engine in engines.items()}
        self._check_space(
            sum(_bytes(part.values for part in shares.values()) for shares in parts.values()) + _bytes(own.values())
        )
        if group.is_main():
            for left in self._root.glob(".step-*"):
                shutil.rmtree(left, ignore_errors=True)
            temporary.mkdir(parents=True)
        group.barrier()
        for name, shares in parts.items():
            write_parts(shares, share_of(temporary, name, group.rank()))
        _write(own, share_of(temporary, PROCESS, group.rank()), {})
        digests = gathered_digests([share_of(temporary, name, group.rank()) for name in (*parts, PROCESS)])
        if group.is_main():
            state = {
                "step": step,
                "identity": self._root.name,
                "setting": self._setting(engines),
                "extra": dict(extra or {}),
            }
            (temporary / STATE).write_text(json.dumps(state))
            seal_directory(temporary, {**digests, STATE: file_digest(temporary / STATE)})
            for path in (temporary / STATE, temporary / DIRECTORY_SEAL, temporary):
                sync(path)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(temporary, final)
            sync(self._root)
            for old in sorted(self._root.glob("step-*"))[: -self._kept] if self._kept else ():
                shutil.rmtree(old, ignore_errors=True)
        group.barrier()

    def steps(self) -> list[int]:
        """Steps whose states are on disk, in their order."""
        return sorted(int(path.name.removeprefix("step-")) for path in self._root.glob("step-*"))

    def forget(self, steps: Callable[[int], bool]) -> None:
        """Remove the states of some steps; every process must call it."""
        group.barrier()
        if group.is_main():
            for step in filter(steps, self.steps()):
                shutil.rmtree(self._root / f"step-{step:08d}", ignore_errors=True)
        group.barrier()

    def restore(
        self,
        engines: Mapping[str, Kept],
        accepts: Callable[[dict[str, Any]], bool] = lambda extra: True,
        step: int | None = None,
    ) -> Saved | None:
        """Load the newest complete state into the engines; None if there is none. Every process must call it.

        A damaged state, or one whose `extra` is not accepted, is skipped: then an earlier one is loaded, or none. With `step` only the
        state after that step is tried.
        With the same processes, ZeRO stage and threads training continues bit for bit; otherwise up to rounding, with a warning.
        """
        pattern = "step-*" if step is None else f"step-{step:08d}"
        directories = group.gather([path.name for path in sorted(self._root.glob(pattern), reverse=True)])[0]
        for directory in (self._root / name for name in directories):
            state = self._read(directory, engines)
            if state is None or group.anywhere(not accepts(state["extra"])):
                continue
            processes = state["setting"]["processes"]
            for name, engine in engines.items():
                with StateReader(directory, name) as reader:
                    engine.load_parts(reader.read)
            own = load_file(share_of(directory, PROCESS, group.rank())) if processes == group.size() else {}
            set_generator_states(own, state["step"])
            tensors = {name.removeprefix("tensor/"): value for name, value in own.items() if name.startswith("tensor/")}
            self._tell(state, self._setting(engines))
            return Saved(state["step"], state["extra"], tensors)
        return None

    def _read(self, directory: Path, engines: Mapping[str, Kept]) -> dict[str, Any] | None:
        """The description in a state; None if any process finds it incomplete or from another training."""
        state: dict[str, Any] | None = None
        damage = damaged_files(directory)
        if group.anywhere(damage is not None and bool(damage)):
            if group.is_main():
                self._note(
                    f"the state in {directory.name} is damaged and skipped: training continues from an earlier one, or starts again"
                )
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads((directory / STATE).read_text())
            for name in (*engines, PROCESS):
                for rank in range(found["setting"]["processes"]):
                    _check_whole(share_of(directory, name, rank))
            state = (
                found
                if found["identity"] == self._root.name and sorted(found["setting"]["engines"]) == sorted(engines)
                else None
            )
            if state and damage is None and group.is_main():
                self._warn(
                    f"the state in {directory.name} is from an older alignflow without digests: its bytes could not be checked"
                )
        if not group.anywhere(state is None):
            return state
        if group.is_main():
            self._note(f"the state in {directory.name} is incomplete, or from an older alignflow, and is skipped")
        return None

    def _setting(self, engines: Mapping[str, Kept]) -> dict[str, Any]:
        """Settings that must be the same to continue bit for bit."""
        described = {name: engine.description() for name, engine in engines.items()}
        setting = {"processes": group.size(), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
        return {**setting, "engines": described}

    def _tell(self, state: Mapping[str, Any], setting: Mapping[str, Any]) -> None:
        if not group.is_main() or not setting["engines"]:
            return
        print(f"resumed after step {state['step']}", flush=True)
        before, now = _words(state["setting"]), _words(setting)
        if changes := [
            f"{name} {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value
        ]:
            self._warn(
                f"step {state['step']} was saved with other settings ({', '.join(changes)}): from there results are equal up to rounding, "
                "not bit for bit"
            )

    def _check_space(self, needed: int) -> None:
        """Agree that the state fits; raises StoreError in every process otherwise."""
        total = int(group.sum_all({"bytes": float(needed)})["bytes"])
        self._root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._root).free
        if group.anywhere(free < total):
            raise StoreError(
                f"the next checkpoint needs {total / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; the last one is kept",
                where=str(self._root),
                do="free some space (`alignflow gc`) and run again: it continues from there",
            )


def gathered_digests(files: list[Path]) -> dict[str, str]:
    """Digests of the files that each process has written, by name, in every process; it waits for all of them."""
    everyone = group.gather({path.name: file_digest(path) for path in files})
    return {name: digest for own in everyone for name, digest in own.items()}


def damaged_files(directory: Path) -> list[str] | None:
    """Names of files of a sealed directory that changed, None if it was never sealed.

    The work is sharded over the processes; each returns its own findings.
    """
    try:
        digests = directory_digests(directory)
    except UnsealedError:
        return None
    except (SealError, OSError):
        return [DIRECTORY_SEAL]
    mine = sorted(digests)[group.rank() :: group.size()]
    return [name for name in mine if not (directory / name).is_file() or file_digest(directory / name) != digests[name]]


class StateReader:
    """Reads any range of the tensors that several processes wrote; open files are closed at the end of the block."""

    def __init__(self, directory: Path, engine: str):
        self._files = contextlib.ExitStack()
        self._places: dict[str, list[tuple[int, int, Any]]] = {}
        for path in sorted(directory.glob(f"{engine}-[0-9]*.safetensors")):
            file = self._files.enter_context(safe_open(path, "pt"))
            for name, start in json.loads(file.metadata()["starts"]).items():
                values = file.get_slice(name)
                self._places.setdefault(name, []).append((start, start + values.get_shape()[0], values))

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Elements `start` to `stop` of the flattened tensor, (stop - start,) fp32."""
        found = torch.empty(stop - start)
        missing = stop - start
        for first, last, values in self._places.get(name, ()):
            begin, end = max(first, start), min(last, stop)
            if begin < end:
                found[begin - start : end - start] = values[begin - first : end - first]
                missing -= end - begin
        if missing:
            raise StoreError(
                f"the checkpoint lacks {missing} elements of {name}", where=name, do="remove the stage's work directory"
            )
        return found

    def __enter__(self) -> StateReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._places.clear()
        self._files.close()


def generator_states() -> dict[str, torch.Tensor]:
    """States of this process's random number generators."""
    states = {"rng/cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["rng/cuda"] = torch.cuda.get_rng_state()
    return states


def set_generator_states(states: Mapping[str, torch.Tensor], step: int) -> None:
    """Load what `generator_states` returned; if it does not fit, reseed, differently in each process."""
    if "rng/cpu" not in states:
        torch.manual_seed(step * 1_000_003 + group.rank())  # all devices
        return
    torch.set_rng_state(states["rng/cpu"])
    if "rng/cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["rng/cuda"])


def _words(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as one flat list of names and values."""
    flat = {name: value for name, value in setting.items() if name != "engines"}
    for described in setting["engines"].values():
        flat |= {name.replace("_", " "): value for name, value in described.items()}
    return flat


def share_of(directory: Path, engine: str, rank: int) -> Path:
    """The file of one process in a directory of shards."""
    return directory / f"{engine}-{rank:05d}.safetensors"


def write_parts(parts: Parts, path: Path) -> None:
    """Write the shard of one process, synced when this returns; `StateReader` reads it."""
    starts = json.dumps({name: part.start for name, part in parts.items()})
    _write(
        {name: part.values.detach().float().cpu().contiguous() for name, part in parts.items()},
        path,
        {"starts": starts},
    )


def _write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    save_file(tensors, path, metadata=metadata)
    sync(path)


def _check_whole(path: Path) -> None:
    """Raise ValueError or OSError if a safetensors file is incomplete."""
    try:
        with safe_open(path, "pt"):
            pass
    except Exception as error:  # noqa: BLE001 (safetensors raises its own error class for an incomplete file)
        raise ValueError(str(error)) from None


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
