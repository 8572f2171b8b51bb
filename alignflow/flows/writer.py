"""Works with a client in a separate thread, so that a slow or absent server delays no stage."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Writer(Generic[Client]):
    """Works with a client in a separate thread, in order; failures are reported and skipped.

    Args:
        connect: Makes the client, in that thread. If it fails, no work is done.
        failed: Called with each error, in that thread.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Client]], failed: Callable[[Exception], None]):
        self._connect, self._failed = connect, failed
        self._queue: queue.Queue[Callable[[Client], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[Client], None]) -> None:
        """Queue this work after the earlier work."""
        self._queue.put(work)

    @property
    def idle(self) -> bool:
        """Whether the queue is empty."""
        return self._queue.empty()

    def close(self, seconds: float) -> bool:
        """Wait for the queued work, at most this long; returns whether the thread ended."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._connect() as client:
                while (work := self._queue.get()) is not None:
                    self._do(work, client)
        except Exception as error:  # noqa: BLE001 (no client at all)
            self._failed(error)

    def _do(self, work: Callable[[Client], None], client: Client) -> None:
        try:
            work(client)
        except Exception as error:  # noqa: BLE001 (no error of a display may end a training)
            self._failed(error)
