"""A stage is done once, in a process of its own that dies with its parent, and its failures are clear."""

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import wait_until

from alignflow.data.errors import DamagedArtifactError, DataError, StageError
from alignflow.tasks.launch import stage
from alignflow.tasks.launch.child import listening
from alignflow.tasks.launch.stage import make_spec, pinned, run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore


def test_the_second_call_finds_what_the_first_one_made(call_of, store):
    ref, ran = run_stage(call_of(), store)
    assert ran and run_stage(call_of(), store) == (ref, False)


def test_force_does_it_again_and_the_digest_is_the_same(call_of, store):
    ref, _ = run_stage(call_of(), store)
    assert run_stage(call_of(), store, force=True) == (ref, True)


def test_an_error_of_the_body_arrives_as_it_was_raised(call_of, store):
    with pytest.raises(DataError, match="row 3: no good\n  write better rows"):
        run_stage(call_of(act="refuse"), store)


def test_an_unexpected_error_names_the_stage_and_shows_the_end_of_the_log(call_of, store):
    with pytest.raises(StageError, match="(?s)toy: ZeroDivisionError.*end of the log.*division by zero"):
        run_stage(call_of(act="break"), store)
    assert not list((store.root / "artifacts").iterdir())


def test_a_killed_child_is_a_failed_stage_and_publishes_nothing(call_of, store):
    with pytest.raises(StageError, match="killed by signal 9"):
        run_stage(call_of(act="die"), store)
    assert not list((store.root / "artifacts").iterdir())


def test_a_timeout_ends_the_child(call_of, store, tmp_path):
    log = tmp_path / "pids"
    with pytest.raises(StageError, match="stopped after 9 s"):
        run_stage(call_of(act="wait", log=str(log), timeout_s=9), store)
    assert not alive(int(log.read_text()))


def test_progress_of_the_child_reaches_the_listener(call_of, store):
    heard = []
    with (
        listening(lambda name, state: heard.append((name, state["done"], state["figures"]))),
        pytest.raises(StageError),
    ):
        run_stage(call_of(act="wait", timeout_s=9), store)
    assert heard == [("toy", 1, {"loss": 0.5})]


PARENT = """
import sys
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore
run_stage(StageCall.model_validate_json(sys.argv[1]), ArtifactStore())
"""


def test_three_that_ask_for_one_key_at_once_do_the_work_once(call_of, store, tmp_path):
    """Threads with a store each: a lock belongs to an open file. tests/system/test_pipeline.py has whole processes."""
    log = tmp_path / "pids"
    call = call_of(act="slow", log=str(log))
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: run_stage(call, ArtifactStore(store.root)), range(3)))
    assert sorted(ran for _, ran in made) == [False, False, True] and len({ref for ref, _ in made}) == 1
    assert len(log.read_text().split()) == 1


def test_the_child_dies_with_a_killed_parent_and_its_lock_is_free(call_of, store, tmp_path):
    log = tmp_path / "pids"
    call = call_of(act="wait", log=str(log))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, call.model_dump_json()])
    wait_until(lambda: log.exists() and log.read_text().strip())
    child = int(log.read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(child))
    assert not store.is_locked(call.key) and store.find(call.key) is None
    assert run_stage(call_of(), store)[1]  # `act` is no part of the key: the rerun finishes the same call


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


def test_the_child_runs_in_a_session_of_its_own(call_of, store, tmp_path):
    run_stage(call_of(log=str(tmp_path / "pids")), store)
    assert int((tmp_path / "pids").read_text()) != os.getpid()


def test_a_forced_stage_has_a_row_journal_of_its_own(call_of, store):
    spec = {force: make_spec(call_of(), store, store.root / "area", force) for force in (False, True)}
    assert (
        "/rows/" in spec[False]["rows"]
        and spec[True]["rows"].endswith("/rows")
        and spec[True]["rows"] != spec[False]["rows"]
    )


def test_the_child_loads_the_commit_that_the_key_was_computed_from():
    config = {
        "path": "a/model",
        "revision": None,
        "corpus": [{"path": "a/set", "revision": "v2"}, {"path": "local.txt", "revision": None}],
    }
    components = {
        "config.path": "hub:a/model@abc",
        "config.corpus.0.path": "hub:a/set@def",
        "config.corpus.1.path": "0123",
    }
    found = pinned(config, components)
    assert found["revision"] == "abc" and [source["revision"] for source in found["corpus"]] == ["def", None]


def test_an_input_whose_bytes_changed_behind_their_time_is_found_by_the_stage_that_takes_it(call_of, store):
    source, _ = run_stage(call_of(text="a"), store)
    file = store.payload(source) / "part" / "text.txt"
    before = file.stat()
    file.write_text("b")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    call = call_of(text="c", source=source)
    with pytest.raises(DamagedArtifactError, match="part/text.txt") as raised:
        run_stage(call, store)
    assert raised.value.key == source.key and store.find(call.key) is None


def test_what_a_stage_notes_is_told_where_its_progress_is_shown(call_of, store, monkeypatch):
    real, told, warned = stage.run_child, [], []
    monkeypatch.setattr(stage, "run_child", lambda *given: {**real(*given), "notes": ["one process alone"]})
    with listening(lambda name, state: told.append((name, state))):
        run_stage(call_of(), store, warn=warned.append)
    assert ("toy", {"note": "one process alone"}) in told and warned == ["toy: one process alone"]
