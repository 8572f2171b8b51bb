"""The store honours what is whole, sets aside what is not, and leaves nothing half-written that looks finished."""

import json
import os
import stat

import pytest
from tests_support import as_artifact

from alignflow.data.adapters import find_base, write_base
from alignflow.data.artifacts import SCHEMA_VERSION, read_manifest
from alignflow.data.errors import StoreError, UserError
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gc import Collection, Wish, collect


@pytest.fixture
def made(call_of, store):
    call = call_of()
    ref, _ = run_stage(call, store)
    return ref


def weights(store, ref):
    return store.directory(ref.key) / "payload" / "model.safetensors"


def flip(path, keep_time):
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def remove(store, keep):
    """Run gc, and keep these artifacts with what led to them."""
    collection = Collection(store, Wish(tuple(keep), keep_last=0))
    assert [why for _, why in collection.remove(collection.plan().waste) if why] == []


def test_the_store_is_private_to_its_owner(store):
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_a_whole_artifact_is_found_with_its_manifest(store, made):
    manifest = store.find(made.key)
    assert manifest.ref() == made and manifest.metrics == {"length": 5.0} and manifest.cost["tokens"] == 7
    assert manifest.ref("part").digest != made.digest


def test_an_artifact_whose_manifest_is_missing_is_none(store, made):
    (store.directory(made.key) / "manifest.json").unlink()
    assert store.find(made.key) is None and "manifest" in store.reasons[made.key]


@pytest.mark.parametrize("damage", ["byte", "truncated", "gone", "manifest garbage"])
def test_a_damaged_artifact_is_set_aside_with_the_reason(store, made, damage):
    path = weights(store, made)
    if damage == "byte":
        flip(path, keep_time=False)
    elif damage == "truncated":
        path.write_text("")
    elif damage == "gone":
        path.unlink()
    else:
        (store.directory(made.key) / "manifest.json").write_text("{")
    assert store.find(made.key) is None
    assert store.reasons[made.key] and not store.directory(made.key).exists()
    assert any((store.root / "quarantine").iterdir())


def test_a_byte_flipped_behind_the_files_time_is_found_by_verify(store, made):
    flip(weights(store, made), keep_time=True)
    assert store.find(made.key) is not None  # a stat cannot see it
    assert "model.safetensors" in store.verify(made.key)


def test_a_touched_file_with_the_same_bytes_is_still_whole_and_is_remembered(store, made):
    os.utime(weights(store, made))
    assert store.find(made.key) is not None
    recorded = json.loads((store.directory(made.key) / "stat.json").read_text())
    assert recorded["model.safetensors"][1] == weights(store, made).stat().st_mtime_ns


def test_a_store_of_a_newer_alignflow_is_refused(store):
    (store.root / "store.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UserError, match="schema version"):
        ArtifactStore(store.root)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ArtifactStore(tmp_path / "file")


def test_a_full_disk_publishes_nothing(store, call_of, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignflow.tasks.store.artifact_store._write_synced", full)
    call = call_of()
    with pytest.raises(StoreError, match="disk is full"):
        run_stage(call, store)
    monkeypatch.undo()
    assert not store.directory(call.key).exists()


def test_resolve_names_an_artifact_by_the_start_of_its_key_or_digest_or_by_its_path(store, made):
    for text in (made.key[:12], made.digest[:8], str(store.payload(made)), str(store.directory(made.key))):
        assert store.resolve(text).key == made.key
    with pytest.raises(UserError, match="no artifact matches"):
        store.resolve("nothing")


def test_resolve_names_the_newest_of_several_that_match(call_of, store, made):
    other, _ = run_stage(call_of(version="2"), store)
    with pytest.raises(UserError, match="2 artifacts match") as raised:
        store.resolve(made.key.partition("-")[0] + "-")
    assert all(ref.key[:15] in str(raised.value) for ref in (made, other))


def test_gc_keeps_the_last_ends_and_what_led_to_them(store, call_of):
    first, _ = run_stage(call_of(text="a"), store)
    second, _ = run_stage(call_of(text="b", source=first), store)
    other, _ = run_stage(call_of(text="c"), store)
    assert collect(store, [], keep_last=2) == []
    assert collect(store, [second.key], keep_last=0) == [store.directory(other.key)]
    remove(store, keep=[other.key])
    assert {manifest.key for manifest in store.manifests()} == {other.key}


def test_gc_keeps_the_base_of_an_adapter_that_it_keeps(store, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_text("weights")
    base = as_artifact(tmp_path / "base", store.root, "init-1")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    write_base(adapter, base)
    kept = as_artifact(adapter, store.root, "sft-1", inputs={"base": store.manifest("init-1").ref()})
    as_artifact(tmp_path / "base", store.root, "init-2")
    remove(store, keep=["sft-1"])
    assert {manifest.key for manifest in store.manifests()} == {"init-1", "sft-1"} and find_base(kept) == base


def test_gc_takes_half_done_work_of_dead_runs_but_not_of_living_ones(store, call_of):
    call = call_of()
    store.stage_area(call.key)
    assert [path.name for path in collect(store, [], 1)] == [call.key]
    with store.lock(call.key):
        assert collect(store, [], 1) == []


def test_a_manifest_tells_everything_about_its_making(store, made):
    manifest = read_manifest(store.directory(made.key))
    assert manifest.stage == "toy" and manifest.config["text"] == "hello" and manifest.libraries["torch"]
    assert manifest.versions["stage"] == "1" and manifest.runtime["device"] == "cpu" and manifest.cost["wall_s"] >= 0
