"""Waiting for what another process does."""

import time

PATIENCE_S = 120  # for what takes seconds on a quiet machine


def wait_until(condition, seconds=PATIENCE_S, every=0.2):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(every)
    return found
