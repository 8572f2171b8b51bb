"""What Ctrl-C and SIGTERM do to a run: it ends within three seconds and says from where a rerun continues.

The stage's processes have a session of their own, and so has a temporary server: a terminal's Ctrl-C reaches this process alone, which
ends them in order. What hangs meanwhile is cut off: with this process their pipes close, and they end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

ENDING_S = 1.8
"""Seconds from the signal after which the end is not waited for: the line is said, and the process ends."""
LAST_S = 2.8
"""Seconds after which it ends without a word, because even that hangs: a terminal that takes no output, for example."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was told to end."""


class Interruption:
    """Turns the first signal into `Interrupted`, and ends this process in time.

    Args:
        says: The one line for the person.
        tidy: What has to be done before the end; a few tenths of a second.
    """

    def __init__(self, says: Callable[[], str], tidy: Callable[[], None]):
        self._says, self._tidy = says, tidy
        self._number = 0
        self._told = threading.Lock()

    def listen(self) -> None:
        """Take over the signals; again inside a flow, where Prefect has taken SIGTERM. One that is ignored stays ignored."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def end(self) -> None:
        """Say the line and end this process with status 128 plus the signal's number; exit handlers, which may hang, do not run."""
        if not self._told.acquire(blocking=False):
            return  # the other thread ends the process
        with contextlib.suppress(Exception):
            self._tidy()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            print(f"alignflow: {self._says()}", file=sys.stderr, flush=True)
        os._exit(128 + (self._number or signal.SIGINT))

    def _hear(self, number: int, frame: object) -> None:
        if self._number:
            return  # the first one is being obeyed
        self._number = number
        for seconds, act in ((ENDING_S, self.end), (LAST_S, lambda: os._exit(128 + number))):
            late = threading.Timer(seconds, act)
            late.daemon = True
            late.start()
        raise Interrupted


@contextlib.contextmanager
def ends_when_told(says: Callable[[], str], tidy: Callable[[], None]) -> Iterator[Interruption]:
    """While this block runs, SIGINT and SIGTERM end the process in time, with one line that `says` makes."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interruption = Interruption(says, tidy)
    interruption.listen()
    try:
        yield interruption
    except KeyboardInterrupt:
        interruption.end()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
