"""Work with a client in a thread of its own: a server that is slow or gone holds up no stage."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Writer(Generic[Client]):
    """Does work with a client in a thread of its own, in order; what fails is told and passed over.

    Args:
        connect: Makes the client, in that thread. Where it fails, no work is done.
        failed: Is called with each error, in that thread.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Client]], failed: Callable[[Exception], None]):
        self._connect, self._failed = connect, failed
        self._queue: queue.Queue[Callable[[Client], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def later(self, work: Callable[[Client], None]) -> None:
        """Do this when what came before is done."""
        self._queue.put(work)

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def close(self, seconds: float) -> bool:
        """Wait for what is left, this long at most; returns whether the thread ended."""
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
        except Exception as error:  # noqa: BLE001 (whatever it is, what is shown is no reason to end a training)
            self._failed(error)
