"""When a training that samples saves its state: often enough that a kill loses little, seldom enough that saving costs little."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from alignflow.models.engines import group

SHARE = 0.05
"""The most that saving may take of a training's time."""


class StateSchedule:
    """Says after which updates a state is due: the first, then as soon as saving it again takes at most SHARE of the time.

    A state of a large model takes longer to write than an update takes, so one after each update would cost more than the training. What a kill
    loses is computed again from the last state. Results do not depend on the schedule.

    Args:
        most: Updates after which a state is due in any case.
        start: Updates that are done.
        clock: Seconds from some start.
    """

    def __init__(self, most: int, start: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._done, self._clock = most, start, clock
        self._since, self._cost = clock(), 0.0

    def due(self, done: int) -> bool:
        """Whether to save the state after `done` updates; every process must ask, and the first one decides."""
        waited = self._clock() - self._since
        own = done - self._done >= self._most or waited * SHARE >= self._cost
        return bool(group.gather(own if group.is_main() else None)[0])

    @contextlib.contextmanager
    def saving(self, done: int) -> Iterator[None]:
        """Save inside: how long it takes decides when the next one is due."""
        begun = self._clock()
        yield
        self._done, self._since = done, self._clock()
        self._cost = self._since - begun
