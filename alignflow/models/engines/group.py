"""The processes of a stage: which one this is, how many there are, and sums over all. With one process there is no communication."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed

from alignflow.data.run import Runtime

TIMEOUT = timedelta(minutes=30)
SIGN_OF_LIFE_S = 20.0
T = TypeVar("T")


def join(runtime: Runtime) -> None:
    """Enter the process group: the launcher's, or otherwise a group of one, which opens no port. Safe to call again."""
    if distributed.is_initialized():
        return
    os.environ.setdefault("LOCAL_RANK", "0")
    if runtime.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if runtime.device == "cuda" else "gloo"
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    else:
        distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1, timeout=TIMEOUT)
    atexit.register(leave)


def leave() -> None:
    """Leave the process group, so that the process ends without a warning."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the files that are written once."""
    return rank() == 0


def share(items: Sequence[T]) -> list[T]:
    """This process's items: every `size`-th, starting at its own number."""
    return list(items[rank() :: size()])


def sum_all(values: Mapping[str, float]) -> dict[str, float]:
    """The sum of each value over all processes; every process must give the same names. fp64."""
    if size() == 1:
        return dict(values)
    names = sorted(values)
    total = sum_tensor(torch.tensor([values[name] for name in names], dtype=torch.float64))
    return dict(zip(names, total.tolist(), strict=True))


def sum_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, as a new tensor on its own device."""
    if size() == 1:
        return tensor.clone()
    total = tensor.to(_device())
    total = total.clone() if total is tensor else total
    distributed.all_reduce(total)
    return total.to(tensor.device)


def gather(value: Any) -> list[Any]:
    """The JSON values of all processes, in the order of their numbers; every process gets them."""
    if size() == 1:
        return [value]
    content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(_device())
    lengths = [torch.zeros(1, dtype=torch.long, device=_device()) for _ in range(size())]
    distributed.all_gather(lengths, torch.tensor([len(content)], device=_device()))
    longest = int(max(lengths))
    padded = torch.zeros(longest, dtype=torch.uint8, device=_device())
    padded[: len(content)] = content
    contents = [torch.zeros_like(padded) for _ in range(size())]
    distributed.all_gather(contents, padded)
    return [json.loads(bytes(part[: int(length)].tolist())) for part, length in zip(contents, lengths, strict=True)]


def anywhere(condition: bool) -> bool:
    """Whether the condition holds in any process: the same answer in all of them."""
    return sum_all({"": float(condition)})[""] > 0


def first_of_each_machine(steps: Iterable[object]) -> None:
    """Run `steps` in the first process of each machine, while the others wait, however long it takes.

    All processes communicate now and then between two steps: a process that waits longer than the group's timeout fails.
    """
    spoke = time.monotonic()
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        for _ in steps:
            if size() > 1 and time.monotonic() - spoke > SIGN_OF_LIFE_S:
                gather(False)
                spoke = time.monotonic()
    while not all(gather(True)):
        pass


def barrier() -> None:
    """Wait for all processes."""
    if size() > 1:
        distributed.barrier()


def _device() -> torch.device:
    """The device that tensors must be on for communication."""
    return torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
