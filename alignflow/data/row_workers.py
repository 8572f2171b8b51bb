"""Processes that work on chunks of rows: results come back in order, and a small job starts no process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeVar

from alignflow.data.errors import StageError
from alignflow.data.without_torch import leave_torch_out

Result = TypeVar("Result")
FEW = 8
"""Chunks that this process works on itself before it starts others: a process needs seconds to begin."""
MOST = 16
"""Processes at most: each of them holds a tokenizer and some chunks, about 75 MB of its own (docs/measurements/benchmarks.md)."""
AHEAD = 2
"""Chunks that wait for each process, so that memory does not grow with the number of rows."""


class Workers:
    """Applies functions of modules to chunks, in `processes` processes once there are more than FEW chunks.

    They are forked from a server that has loaded what they need (`row_process`), or begin fresh where there is none. They share its memory, die
    with this process, and end when the `with` block ends. There are none where they would import another package of this one's name.
    `say` hears why rows are worked on in this process alone, where others were asked for and are needed.
    """

    def __init__(self, processes: int, say: Callable[[str], None] = lambda text: None):
        self.processes = min(processes, MOST) if _is_found() else 1
        self._alone = (
            "" if self.processes == min(processes, MOST) else f"they would import another {__name__.split('.')[0]}"
        )
        self._say = say
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
            for job in islice(jobs, FEW):
                yield function(*job)
            first = next(jobs, None)
            if first is None:
                return
            jobs = chain([first], jobs)
            self._pool = self._start()
            if self._pool is None:
                for job in jobs:
                    yield function(*job)
                return
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            try:
                waiting.append(self._pool.submit(function, *job))
            except (BrokenProcessPool, EOFError, OSError):  # one died before this job was given, or the server did
                raise _died() from None
            if len(waiting) > AHEAD * self.processes:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    def _start(self) -> ProcessPoolExecutor | None:
        """The processes, or None where this one works alone."""
        if self.processes > 1:
            try:
                return ProcessPoolExecutor(self.processes, _context(), _begin)
            except OSError as error:  # there is no place for semaphores, such as a /dev/shm that can be written
                self.processes, self._alone = 1, " ".join(str(error).split())
        if self._alone:
            self._say(f"rows are worked on in one process, which takes longer: others cannot start ({self._alone})")
            self._alone = ""
        return None


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise _died() from None


def _died() -> StageError:
    return StageError(
        "a process that works on rows died",
        where="prepare",
        do="the machine may be out of memory: lower engine.threads, which is the number of these processes",
    )


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_found() -> bool:
    """Whether a process of its own imports this package, and not another of its name or none (see start.py, which binds this one)."""
    package = Path(__file__).resolve().parents[1]
    spec = next(filter(None, (finder.find_spec(package.name, None) for finder in sys.meta_path)), None)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == package


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alignflow.data.row_process"])
    try:
        forkserver.ensure_running()
    except (
        OSError
    ):  # no socket can be made: the path of the directory for temporary files is too long, or its file system has none
        return multiprocessing.get_context("spawn")
    return context


def _begin() -> None:
    """Leave torch out, and interrupts to the parent; end this process as soon as its parent is gone."""
    leave_torch_out()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # it waits for the end of a pipe; what the kernel could tell is the end of the server
        os._exit(1)
