"""A limit of requests and tokens in any minute, shared by all threads of a process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_S = 60.0


@dataclass
class Grant:
    """One request that was admitted: when (seconds of the clock), and its tokens."""

    time_s: float
    tokens: int


class RateLimit:
    """Delays requests so that no window of 60 seconds has more of them, or of their tokens, than is allowed.

    A request with more tokens than a minute allows is admitted in an empty window; otherwise it never would be.

    Args:
        requests: Most requests in a minute; None: no limit.
        tokens: Most tokens in a minute; None: no limit.
        clock: Seconds that never go back.
        wait: Called with seconds to wait; may raise to end the waiting.
    """

    def __init__(
        self,
        requests: int | None = None,
        tokens: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ):
        self._requests, self._tokens, self._clock, self._wait = requests, tokens, clock, wait
        self._grants: deque[Grant] = deque()
        self._lock = threading.Lock()

    def watch(self, wait: Callable[[float], None]) -> None:
        """Use this function to wait from now on; it can be interrupted."""
        self._wait = wait

    def take(self, tokens: int) -> Grant:
        """Wait until a request of so many tokens may go, and count it."""
        while True:
            with self._lock:
                delay = self._delay(tokens)
                if delay <= 0:
                    grant = Grant(self._clock(), tokens)
                    if self._requests is not None or self._tokens is not None:
                        self._grants.append(grant)
                    return grant
            self._wait(delay)

    def settle(self, grant: Grant, tokens: int) -> None:
        """Correct a request's tokens once their number is known."""
        with self._lock:
            grant.tokens = tokens

    def _delay(self, tokens: int) -> float:
        """Seconds until a request may go, by what is known now; 0: now."""
        now = self._clock()
        while self._grants and now - self._grants[0].time_s >= MINUTE_S:
            self._grants.popleft()
        delay = 0.0
        if self._requests is not None and len(self._grants) >= self._requests:
            delay = self._grants[len(self._grants) - self._requests].time_s + MINUTE_S - now
        if self._tokens is not None and self._grants:
            left = sum(grant.tokens for grant in self._grants)
            for grant in self._grants:
                if left + tokens <= self._tokens:
                    break
                left -= grant.tokens
                delay = max(delay, grant.time_s + MINUTE_S - now)
        return delay
