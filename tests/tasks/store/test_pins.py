"""What a live process pins is seen by others; what a dead one pinned is not."""

import errno
import multiprocessing
import os
import signal
import subprocess

import pytest
from waiting import wait_until

from alignflow.data.errors import StoreError
from alignflow.data.sharing import Sharing
from alignflow.tasks.store import pins as pins_module
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import GATE, live_pins, stored_paths, using

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["store", "shared"])
def either(request, store):
    """A store of one machine, and one that machines share."""
    if request.param == "shared":
        store.share(Sharing(beat_s=0.1, expiry_s=1.0))
    return store


def pins_of(store):
    with store.lock(GATE):
        return live_pins(ArtifactStore(store.root))


def test_pins_hold_for_the_block_and_leave_nothing(either):
    with using(either, "sft-1") as pins, using(either, "init-1"):
        pins.add("prepare-1", "rows/label-1")
        assert pins_of(either) == {"sft-1", "init-1", "prepare-1", "rows/label-1"}
    assert pins_of(either) == set() and not list((either.root / "pins").iterdir())
    assert len(list((either.root / "locks").iterdir())) == 1, "only the lock under which pins are added"


def test_the_pins_of_a_killed_process_end_with_it(either):
    ready = FORK.Event()

    def work():
        with using(ArtifactStore(either.root), "sft-1"):
            ready.set()
            signal.pause()

    process = FORK.Process(target=work)
    process.start()
    assert ready.wait(30) and pins_of(either) == {"sft-1"}
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert pins_of(either) == set() and not list((either.root / "pins").iterdir())


def test_a_child_holds_the_pins_of_a_killed_parent(store):
    """The supervisor of a stage is given the open file; it ends some seconds after its parent was killed."""
    told = FORK.Queue()

    def work():
        with using(ArtifactStore(store.root), "sft-1") as pins:
            told.put(subprocess.Popen(["sleep", "60"], pass_fds=pins.files).pid)
            signal.pause()

    process = FORK.Process(target=work)
    process.start()
    child = told.get(timeout=30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert pins_of(store) == {"sft-1"}
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: pins_of(store) == set())


def test_where_a_live_process_does_not_say_what_it_uses_nothing_is_free(store):
    with using(store, "sft-1"):
        (file,) = (store.root / "pins").iterdir()
        file.write_text("{")
        with pytest.raises(StoreError, match="pins of a running process cannot be read"):
            pins_of(store)


def test_artifacts_that_a_config_names_by_path_are_found(store):
    inside = str(store.root / "artifacts" / "sft-1" / "payload")
    config = {
        "path": inside,
        "data": [{"path": "elsewhere"}, {"path": str(store.root / "artifacts" / "prepare-2")}],
        "n": 1,
    }
    assert stored_paths(store, config) == {"sft-1", "prepare-2"}


@pytest.mark.parametrize("linked", ["store", "path"])
def test_artifacts_are_found_by_paths_through_links(store, tmp_path, linked):
    payload = store.root / "artifacts" / "sft-1" / "payload"
    payload.mkdir(parents=True)
    (tmp_path / "link").symlink_to(store.root if linked == "store" else payload)
    if linked == "store":
        assert stored_paths(ArtifactStore(tmp_path / "link"), str(payload)) == {"sft-1"}
        assert stored_paths(store, str(tmp_path / "link" / "artifacts" / "sft-1" / "payload")) == {"sft-1"}
    else:
        assert stored_paths(store, {"path": str(tmp_path / "link" / "model")}) == {"sft-1"}


def test_a_path_of_an_artifact_that_is_a_link_to_another_disk_is_found(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (store.root / "artifacts" / "sft-1").symlink_to(tmp_path / "elsewhere")
    assert stored_paths(store, str(store.root / "artifacts" / "sft-1" / "payload")) == {"sft-1"}


def test_a_full_disk_is_told_and_what_was_not_written_does_not_count_as_pinned(store, monkeypatch):
    replace = os.replace

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with using(store, "sft-1") as pins:
        monkeypatch.setattr(pins_module.os, "replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            pins.add("init-1")
        assert pins_of(store) == {"sft-1"} and len(list((store.root / "pins").iterdir())) == 1
        monkeypatch.setattr(pins_module.os, "replace", replace)
        pins.add("init-1")
        assert pins_of(store) == {"sft-1", "init-1"}
