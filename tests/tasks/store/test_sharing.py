"""A store that machines share: the first to publish makes the artifact of all, and nobody writes where another one may.

The other machine is simulated: a store object with a `Host` of another name and boot id, here or in another process.
"""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time

import pytest
from flow_support import publish as published
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import wait_until

from alignflow.data import artifacts
from alignflow.data.errors import StageError, StoreError, UserError
from alignflow.data.host import Host
from alignflow.data.sharing import Sharing
from alignflow.tasks.keys.content import ContentDigests, settled
from alignflow.tasks.launch.stage import make_spec, run_stage
from alignflow.tasks.store import attempts
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gc import collect

OTHER = Host("other", "another boot", "pid:[1]")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def shared(store):
    store.share(Sharing(beat_s=0.1, expiry_s=1.0))
    return store


@pytest.fixture
def elsewhere(shared):
    return ArtifactStore(shared.root, OTHER)


def staged(store, call, content):
    """A staging area with one file, and its manifest."""
    manifest = published(ArtifactStore(store.root.with_name("scratch")), call, content)
    area = store.stage_area(call.key)
    (area / "payload" / "tokenizer.json").write_text(f"{call.name} {content}")
    return area, manifest


def silence(store):
    """Set every lease's last heartbeat back."""
    for path in store.root.glob("locks/*.lease/[0-9]*"):
        os.utime(path, (0, 0))


def test_every_store_object_sees_that_it_is_shared_also_one_that_was_opened_before(store):
    early = ArtifactStore(store.root)
    assert early.sharing is None
    store.share(Sharing())
    assert early.sharing == ArtifactStore(store.root).sharing == Sharing(beat_s=10, expiry_s=60)
    with early.lock("key"):
        assert ArtifactStore(store.root, OTHER).is_locked("key") and not list(store.root.glob("locks/*.lock"))


def test_a_store_in_which_something_runs_is_not_shared(store):
    with store.lock("key"), pytest.raises(UserError, match="something runs"):
        store.share(Sharing())
    assert store.sharing is None


def test_a_file_system_that_breaks_the_rules_is_refused(store, monkeypatch):
    rename = os.rename

    def replacing(source, target):
        shutil.rmtree(target, ignore_errors=True)
        rename(source, target)

    monkeypatch.setattr("alignflow.tasks.store.sharing.os.rename", replacing)
    with pytest.raises(UserError, match="cannot be shared: a directory is renamed over one that is not empty"):
        store.share(Sharing())
    assert store.sharing is None


def test_a_store_that_does_not_say_how_it_is_used_is_not_used(store):
    (store.root / "store.json").write_text("{")
    with pytest.raises(StoreError, match="does not say"), store.lock("key"):
        pass


@pytest.mark.parametrize("mode", ["store", "shared"])
def test_the_second_publisher_takes_the_first_ones_artifact(mode, request, call_of):
    store, call = request.getfixturevalue(mode), call_of()
    area, first = staged(store, call, "first")
    assert store.publish(area, first).ours
    area, second = staged(store, call, "second")
    done = store.publish(area, second)
    assert (done.ours, done.ref, done.other_digest) == (False, first.ref(), second.digest) and not area.exists()
    area, same = staged(store, call, "first")
    assert store.publish(area, same).other_digest == ""
    assert store.find(call.key).digest == first.digest


def test_a_damaged_first_artifact_is_not_taken(shared, call_of):
    call = call_of()
    shared.publish(*staged(shared, call, "first"))
    (shared.directory(call.key) / "payload" / "tokenizer.json").write_text("damaged")
    area, second = staged(shared, call, "second")
    assert shared.publish(area, second).ours and shared.find(call.key).digest == second.digest


def test_a_mount_that_does_not_answer_is_no_damage(shared, call_of, monkeypatch):
    call = call_of()
    shared.publish(*staged(shared, call, "first"))

    def stale(_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(artifacts, "read_manifest", stale)
    with pytest.raises(StoreError, match="Stale file handle"):
        shared.find(call.key)
    monkeypatch.undo()
    assert shared.find(call.key)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(publishers=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=6))
def test_every_publisher_gets_the_artifact_that_the_store_has(shared, call_of, publishers):
    call = call_of(text=f"{publishers}")
    standing = None
    for content, force in publishers:
        area, manifest = staged(shared, call, content)
        done = shared.publish(area, manifest, force)
        assert done.ours == (force or standing is None)
        standing = manifest.digest if done.ours else standing
        assert done.ref.digest == standing == shared.find(call.key).digest
        assert (done.other_digest != "") == (manifest.digest != standing)


def test_publishers_at_once_agree_on_one_artifact(shared, call_of):
    call, told = call_of(), FORK.Queue()
    areas = []
    for number in range(6):
        area, manifest = staged(shared, call, f"number {number}")
        own = area.with_name(f"{area.name}-{number}")
        os.rename(area, own)
        areas.append((own, manifest))

    def publish(area, manifest):
        done = ArtifactStore(shared.root).publish(area, manifest)
        told.put((done.ours, done.ref.digest))

    processes = [FORK.Process(target=publish, args=pair) for pair in areas]
    for process in processes:
        process.start()
    answers = [told.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(ours for ours, _ in answers) == 1 and len({digest for _, digest in answers}) == 1


def test_a_machine_that_was_taken_for_dead_takes_the_artifact_of_the_one_that_went_on(
    elsewhere, shared, call_of, tmp_path
):
    log, told = tmp_path / "pids", FORK.Queue()
    call, warned = call_of(act="slow", log=str(log)), []

    def machine():
        told.put((*run_stage(call, elsewhere, warn=warned.append), warned))

    process = FORK.Process(target=machine)
    process.start()
    wait_until(log.exists)  # its child works
    os.kill(process.pid, signal.SIGSTOP)
    ref, ran = run_stage(call_of(), shared)  # waits for the expiry, then does the work itself
    assert ran
    os.kill(process.pid, signal.SIGCONT)
    theirs, they_ran, warnings = told.get(timeout=60)
    process.join(10)
    assert (theirs, they_ran) == (ref, False) and "was first to publish" in warnings[0] and len(warnings) == 1
    assert (
        not shared.is_locked(call.key)
        and not list((shared.root / "work").iterdir())
        and shared.find(call.key).digest == ref.digest
    )


def test_a_stage_that_fails_after_its_lock_was_taken_looks_again(shared, elsewhere, call_of, monkeypatch):
    call, warned = call_of(), []
    theirs = []

    def overtaken(*_):
        silence(shared)
        with elsewhere.lock(call.key):
            theirs.append(elsewhere.publish(*staged(elsewhere, call, "theirs")).ref)
        raise StageError("its work directory is gone")

    monkeypatch.setattr("alignflow.tasks.launch.stage.run_child", overtaken)
    assert run_stage(call, shared, warn=warned.append) == (theirs[0], False) and "lost its lock" in warned[0]


def test_a_stage_that_fails_under_its_lock_has_failed(shared, call_of):
    with pytest.raises(StageError, match="ZeroDivisionError"):
        run_stage(call_of(act="break"), shared)
    assert (shared.root / "runs" / f"{call_of().key}.log").exists() and run_stage(call_of(), shared)[1]


def test_two_machines_work_on_one_key_in_directories_of_their_own_that_end_in_the_key(shared, elsewhere, call_of):
    call = call_of()
    specs = [make_spec(call, store, store.area(call.key)) for store in (shared, elsewhere)]
    for place in ("out", "side", "work"):
        assert specs[0][place] != specs[1][place]
    assert all(spec["work"].endswith(f"/{call.key}") for spec in specs)  # a saved state belongs to the key: SavedStates


def works(shared, elsewhere, key="sft-1"):
    ours, theirs = shared.work(key), elsewhere.work(key)
    (theirs / "step-1").mkdir(parents=True)
    (theirs / "step-1" / "state.json").write_text("{}")
    return ours, theirs


def test_work_that_ended_in_order_is_taken_over_by_a_rename(shared, elsewhere):
    ours, theirs = works(shared, elsewhere)
    number = (theirs / "step-1" / "state.json").stat().st_ino
    attempts.leave(theirs)
    attempts.take_over(ours, print)
    assert (ours / "step-1" / "state.json").stat().st_ino == number and not theirs.parent.exists()


def test_work_of_a_dead_or_living_machine_is_taken_over_by_a_copy(shared, elsewhere):
    said = []
    ours, theirs = works(shared, elsewhere)
    attempts.take_over(ours, said.append)
    (theirs / "step-1" / "state.json").write_text("it lives, and writes on")
    assert (ours / "step-1" / "state.json").read_text() == "{}" and "other" in said[0]


def test_work_from_before_the_store_was_shared_is_taken_over(shared):
    (shared.root / "work" / "sft-1" / "step-1").mkdir(parents=True)
    attempts.take_over(shared.work("sft-1"), print)
    assert (shared.work("sft-1") / "step-1").is_dir() and not (shared.root / "work" / "sft-1").exists()


def test_ones_own_newer_work_is_kept(shared, elsewhere):
    ours, theirs = works(shared, elsewhere)
    os.utime(theirs / "step-1" / "state.json", (1, 1))
    os.utime(theirs / "step-1", (1, 1))
    (ours / "step-2").mkdir(parents=True)
    attempts.take_over(ours, print)
    assert [path.name for path in ours.iterdir()] == ["step-2"]


@pytest.mark.parametrize(("changes", "whole"), [(1, True), (100, False)])
def test_a_copy_is_what_stood_there_at_one_moment(tmp_path, monkeypatch, changes, whole):
    source, copy = tmp_path / "source", attempts._copy_synced
    source.mkdir()
    for name in "ab":
        (source / name).write_text("0")
    left = iter(range(changes))

    def changing(one, other):
        copy(one, other)
        for number in left:  # both files change while they are copied
            for name in "ab":
                (source / name).write_text(f"{number + 1}")
            break
        return other

    monkeypatch.setattr(attempts, "_copy_synced", changing)
    assert attempts.snapshot(source, tmp_path / "target") == whole
    assert not (tmp_path / "target").exists() if not whole else (tmp_path / "target" / "a").read_text() == "1"
    assert not whole or (tmp_path / "target" / "b").read_text() == "1"


def test_gc_leaves_what_another_machine_works_on(shared, elsewhere, call_of):
    call = call_of()
    with elsewhere.lock(call.key):
        area = elsewhere.stage_area(call.key)
        elsewhere.work(call.key).mkdir(parents=True)
        assert collect(shared, [], 1) == []
    assert collect(shared, [], 1) == [area, elsewhere.work(call.key).parent]


def test_digests_of_files_are_remembered_per_host_and_without_a_database(shared, tmp_path, monkeypatch):
    file = tmp_path / "prompts.jsonl"
    file.write_text("one")
    wait_until(lambda: settled(file.stat(), time.time_ns()), every=0.02)
    digest = ContentDigests(shared.root, shared=True).of("path", str(file))
    assert not (shared.root / "content.sqlite").exists() and len(list((shared.root / "content").rglob("*.json"))) == 1
    monkeypatch.setattr(artifacts, "file_digest", lambda path: "hashed again")
    assert ContentDigests(shared.root, shared=True).of("path", str(file)) == digest
    monkeypatch.setattr("alignflow.tasks.keys.content.this_host", lambda: OTHER)
    assert ContentDigests(shared.root, shared=True).of("path", str(file)) == "hashed again"
    file.write_text("two and three")
    monkeypatch.undo()
    assert ContentDigests(shared.root, shared=True).of("path", str(file)) != digest


def test_the_lock_of_a_store_of_one_machine_is_the_kernels(store):
    with store.lock("key"):
        assert list(store.root.glob("locks/*.lock")) and not list(store.root.glob("locks/*.lease"))
    assert json.loads((store.root / "store.json").read_text()) == {"schema_version": artifacts.SCHEMA_VERSION}
