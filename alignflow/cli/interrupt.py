"""Ends a run on Ctrl-C or SIGTERM within three seconds and says where a rerun continues.

The stage's processes and a temporary server have sessions of their own: a terminal's Ctrl-C reaches only this process, which
ends them in order. If they hang, this process exits anyway: their pipes close, and they end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

ENDING_S = 1.8
"""Seconds after the signal at which the process prints the line and exits, finished or not."""
LAST_S = 2.8
"""Seconds after which the process exits without the line, because even printing hangs, for example on a stuck terminal."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal told the run to end."""


class Interruption:
    """Turns the first signal into `Interrupted`, and ends this process in time.

    Args:
        says: Returns the line to print.
        tidy: Cleanup before the exit; may take a few tenths of a second.
    """

    def __init__(self, says: Callable[[], str], tidy: Callable[[], None]):
        self._says, self._tidy = says, tidy
        self._number = 0
        self._told = threading.Lock()

    def listen(self) -> None:
        """Install the signal handlers; call it again inside a flow, because Prefect replaces SIGTERM's. Ignored signals stay ignored."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def end(self) -> None:
        """Print the line and end this process with status 128 plus the signal's number. Exit handlers may hang, so they do not run."""
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
            return  # the first signal is being handled
        self._number = number
        for seconds, act in ((ENDING_S, self.end), (LAST_S, lambda: os._exit(128 + number))):
            late = threading.Timer(seconds, act)
            late.daemon = True
            late.start()
        raise Interrupted


@contextlib.contextmanager
def ends_when_told(says: Callable[[], str], tidy: Callable[[], None]) -> Iterator[Interruption]:
    """Inside this block SIGINT and SIGTERM end the process in time, with the line of `says`."""
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
