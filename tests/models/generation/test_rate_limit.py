"""No window of a minute has more requests or tokens than allowed, whatever the times and sizes."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.generation.rate_limit import MINUTE_S, RateLimit


class Clock:
    """Seconds that go on only where somebody waits."""

    def __init__(self):
        self.time, self.lock = 0.0, threading.Lock()

    def now(self):
        return self.time

    def wait(self, seconds):
        assert seconds > 0
        with self.lock:
            self.time += seconds


def times_of(limit, clock, sizes, gaps):
    taken = []
    for tokens, gap in zip(sizes, gaps, strict=True):
        clock.time += gap
        limit.take(tokens)
        taken.append((clock.time, tokens))
    return taken


SIZES = st.lists(st.tuples(st.integers(1, 120), st.floats(0, 30)), min_size=1, max_size=40)


@given(SIZES, st.integers(1, 7), st.integers(20, 200))
def test_every_window_of_a_minute_keeps_both_limits(asked, requests, tokens):
    clock = Clock()
    limit = RateLimit(requests, tokens, clock.now, clock.wait)
    taken = times_of(limit, clock, [size for size, _ in asked], [gap for _, gap in asked])
    for start, _ in taken:
        window = [size for time, size in taken if start <= time < start + MINUTE_S - 1e-6]
        assert len(window) <= requests
        assert sum(window) <= tokens or len(window) == 1, "one that is larger than a minute allows goes alone"


@given(SIZES)
def test_without_limits_nobody_waits(asked):
    clock = Clock()
    times_of(RateLimit(clock=clock.now, wait=clock.wait), clock, [size for size, _ in asked], [0.0] * len(asked))
    assert clock.time == 0


def test_what_a_request_really_had_takes_the_place_of_the_estimate():
    clock = Clock()
    limit = RateLimit(None, 100, clock.now, clock.wait)
    limit.settle(limit.take(100), 10)
    limit.take(90)
    assert clock.time == 0
    limit.take(20)
    assert clock.time == MINUTE_S


def test_threads_share_the_limit():
    clock, times, lock = Clock(), [], threading.Lock()
    limit = RateLimit(5, None, clock.now, clock.wait)

    def work():
        for _ in range(5):
            grant = limit.take(1)
            with lock:
                times.append(grant.time_s)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start in times:
        assert sum(start <= time < start + MINUTE_S for time in times) <= 5
    assert len(times) == 20
