"""Attempts at one key: whose work is taken over, and how."""

import os

import pytest

from alignflow.data.host import Host
from alignflow.tasks.store import attempts
from alignflow.tasks.store.attempts import attempt_name, key_of, last_change, leave, snapshot, take_over, tidy

KEY = "sft-0123"


@pytest.fixture
def place(tmp_path):
    """Make the work of an attempt, with a file written at some second."""

    def make(attempt, at, text="state"):
        work = (tmp_path / f"{KEY}@{attempt}" if attempt else tmp_path) / KEY
        work.mkdir(parents=True)
        (work / "state").write_text(text)
        os.utime(work / "state", (at, at))
        return work

    return make


def test_a_name_tells_the_key_and_the_host():
    name = attempt_name(KEY, Host("node one", "", ""))
    assert key_of(name) == KEY and name.startswith(f"{KEY}@node_one-{os.getpid()}-")


def test_newer_work_that_ended_in_order_is_moved(place, tmp_path):
    own, other = place("own", 100, "old"), place("other", 200, "new")
    leave(other)
    take_over(own, pytest.fail)
    assert (own / "state").read_text() == "new" and not other.parent.exists()


def test_newer_work_that_somebody_may_still_write_is_copied_and_told(place):
    own, other = place("own", 100, "old"), place("other", 200, "new")
    said = []
    take_over(own, said.append)
    assert (own / "state").read_text() == "new" and other.is_dir() and "a copy of the work of other" in said[0]


def test_older_work_stays_where_it_is(place):
    own, _ = place("own", 300, "own"), place("other", 200)
    take_over(own, pytest.fail)
    assert (own / "state").read_text() == "own"


def test_work_that_changes_all_the_time_is_not_taken(place, monkeypatch):
    own, _ = place("own", 100, "old"), place("other", 200)
    numbers = iter(range(100))
    monkeypatch.setattr(attempts, "_listing", lambda directory: {"state": (1, next(numbers), 1)})
    assert not snapshot(own, own.parent / "copy") and not (own.parent / "copy").exists()


def test_what_was_published_leaves_nothing_of_any_attempt(place, tmp_path):
    own, _, _ = place("own", 100), place("other", 200), place("", 300)
    tidy(own, others=True)
    assert list(tmp_path.iterdir()) == [] and last_change(tmp_path / "nothing") == 0
