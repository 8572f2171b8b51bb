"""Work in a thread of its own: in order, and on after a failure."""

import threading
from contextlib import nullcontext

from alignflow.flows.writer import Writer


def test_work_is_done_in_order_and_goes_on_after_a_failure():
    done, failed = [], []
    writer = Writer(lambda: nullcontext("client"), failed.append)
    error = ConnectionError("away")

    def fail(client):
        raise error

    for work in (lambda client: done.append((client, 1)), fail, lambda client: done.append((client, 2))):
        writer.later(work)
    assert writer.close(60) and done == [("client", 1), ("client", 2)] and failed == [error] and writer.idle


def test_without_a_client_nothing_is_done():
    done, failed = [], []

    def connect():
        raise OSError("no server")

    writer = Writer(connect, failed.append)
    writer.later(done.append)
    assert writer.close(60) and not done and [str(error) for error in failed] == ["no server"]


def test_whoever_closes_it_waits_no_longer_than_told():
    go_on = threading.Event()
    writer = Writer(lambda: nullcontext(), lambda error: None)
    writer.later(lambda client: go_on.wait(60))
    assert not writer.close(0.01)
    go_on.set()
