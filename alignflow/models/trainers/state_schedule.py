"""Decides when a training that samples saves its state, so that both kills and saving cost little time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from alignflow.models.engines import group

SHARE = 0.05
"""Largest share of a training's time for saving."""


class StateSchedule:
    """Says after which updates a state is due: the first, then as soon as saving it again takes at most SHARE of the time.

    A state of a large model takes longer to write than an update takes, so one after each update would cost more than the training. Work lost in a
    kill is computed again from the last state. Results do not depend on the schedule.

    Args:
        most: Most updates between two states.
        start: Number of finished updates.
        clock: Seconds from some start.
    """

    def __init__(self, most: int, start: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._done, self._clock = most, start, clock
        self._since, self._cost = clock(), 0.0

    def due(self, done: int) -> bool:
        """Whether to save the state after `done` updates; every process must call it, and the first one decides."""
        waited = self._clock() - self._since
        own = done - self._done >= self._most or waited * SHARE >= self._cost
        return bool(group.gather(own if group.is_main() else None)[0])

    @contextlib.contextmanager
    def saving(self, done: int) -> Iterator[None]:
        """A context to save in; its duration decides when the next state is due."""
        begun = self._clock()
        yield
        self._done, self._since = done, self._clock()
        self._cost = self._since - begun
