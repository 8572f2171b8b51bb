"""Processes that work on chunks of rows: results come back in order, and a small job starts no process."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from alignflow.data.errors import StageError

Result = TypeVar("Result")
FEW = 8
"""Chunks that this process works on itself before it starts others: a process needs seconds to begin."""
MOST = 16
"""Processes at most: each of them holds libraries, a tokenizer and some chunks, about half a gigabyte (docs/benchmarks.md)."""
AHEAD = 2
"""Chunks that wait for each process, so that memory does not grow with the number of rows."""


class Workers:
    """Applies functions of modules to chunks, in `processes` processes once there are more than FEW chunks.

    The processes begin fresh (spawn), die with this one, and end when the `with` block ends.
    """

    def __init__(self, processes: int):
        self.processes = min(processes, MOST)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """The results of `function(*job)` in the order of the jobs, which are taken as they are needed.

        Raises:
            StageError: a process died.
            Exception: whatever `function` raises; the jobs after that one count for nothing.
        """
        jobs = iter(jobs)
        if self._pool is None:
            for job in jobs if self.processes < 2 else islice(jobs, FEW):
                yield function(*job)
            first = next(jobs, None)
            if first is None:
                return
            jobs = chain([first], jobs)
            self._pool = ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(self._pool.submit(function, *job))
            if len(waiting) > AHEAD * self.processes:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise StageError(
            "a process that works on rows died", where="prepare",
            do="the machine may be out of memory: lower engine.threads, which is the number of these processes",
        ) from None  # fmt: skip


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (Linux), and leave interrupts to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was gone before this line
        os._exit(1)
