"""`verify` looks at every byte that something uses, names what is damaged and what was made from it, and heals the store."""

import errno
import os
import shutil
import sqlite3
import time

import pytest
from run_support import record_run
from stored_chain import flip, publish
from waiting import wait_until

from alignflow.data import artifacts
from alignflow.data.gates import GateRecord
from alignflow.data.seals import digest_of_bytes, sealed
from alignflow.tasks.keys.content import settled
from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.last_good_run import latest, remember
from alignflow.tasks.store.verify import inspect, set_aside


def test_what_was_derived_from_a_damaged_artifact_is_set_aside_with_it(store, chain):
    first, second, third, alone = chain
    flip(store.payload(first) / "part" / "text.txt")
    found = inspect(store)
    assert list(found.damaged) == [first.key] and "part/text.txt changed" in found.damaged[first.key]
    assert [(one.key, one.source) for one in found.derived] == [(second.key, first.key), (third.key, first.key)]
    assert store.directory(first.key).exists(), "a look changes nothing"
    done = set_aside(store, found)
    assert len(done) == 3 and f"derived from {first.key}" in done[1]
    assert [path.name for path in (store.root / "artifacts").iterdir()] == [alone.key]
    assert inspect(store).clean


def test_what_took_a_damaged_artifact_by_its_path_is_derived_from_it_too(store, chain, call_of):
    alone = chain[3]
    made = publish(store, call_of(text="e", file=str(store.payload(alone) / "model.safetensors")))
    flip(store.payload(alone) / "part" / "text.txt")
    found = inspect(store)
    assert [(one.key, one.source) for one in found.derived] == [(made.key, alone.key)] and found.whole == 3


def test_an_artifact_that_was_made_again_since_it_was_hashed_stays(store, chain, call_of):
    alone = chain[3]
    flip(store.payload(alone) / "model.safetensors")
    found = inspect(store)
    store.quarantine(alone.key, "by a run")
    publish(store, call_of(text="d"))
    (line,) = set_aside(store, found)
    assert "made again meanwhile" in line and store.find(alone.key) is not None


def test_an_artifact_that_somebody_makes_now_stays(store, chain):
    first, second = chain[:2]
    flip(store.payload(first) / "model.safetensors")
    found = inspect(store)
    with store.lock(first.key):
        done = set_aside(store, found)
    assert "in use" in done[0] and store.directory(first.key).exists()
    assert "set aside as well" in done[1] and not store.directory(second.key).exists()


def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at(store, chain, monkeypatch):
    first, second, _, alone = chain
    unreadable, digest = store.payload(first) / "model.safetensors", artifacts.file_digest
    flip(store.payload(alone) / "model.safetensors")
    (store.root / "rows" / "sample-1" / "batch-a.json").mkdir(parents=True)

    def failing_disk(path):
        if path == unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest(path)

    monkeypatch.setattr(artifacts, "file_digest", failing_disk)
    found = inspect(store)
    assert found.unreadable == {
        store.directory(first.key): "Input/output error",
        store.root / "rows" / "sample-1" / "batch-a.json": "Is a directory",
    }
    assert list(found.damaged) == [alone.key] and found.whole == 2 and not found.clean
    assert (
        len(set_aside(store, found)) == 1
        and store.directory(first.key).exists()
        and store.directory(second.key).exists()
    )


def test_a_whole_store_of_an_older_alignflow_is_not_damaged(store, chain):
    shutil.rmtree(store.root / "content", ignore_errors=True)
    (store.root / "content.sqlite").unlink(missing_ok=True)
    with sqlite3.connect(store.root / "content.sqlite") as database:
        database.execute("create table files (path text primary key, size int, mtime int, digest text)")
    old = store.root / "rows" / "sample-1" / "batch-a.json", store.root / "content" / "host" / "a.json"
    for path in old:
        path.parent.mkdir(parents=True)
        path.write_text('{"a": 1}')
    found = inspect(store)
    assert found.clean and "1 batches of row journals are of an older alignflow" in "\n".join(found.notes)
    set_aside(store, found)
    assert all(path.exists() for path in old), "the journal itself decides what becomes of them"


@pytest.mark.parametrize("damage", ["gone", "changed", "truncated"])
def test_an_artifact_whose_manifest_is_lost_or_changed_is_damaged_and_not_passed_over(store, chain, damage):
    manifest = store.directory(chain[0].key) / "manifest.json"
    if damage == "gone":
        manifest.unlink()
    elif damage == "changed":
        manifest.write_text(manifest.read_text().replace('"length": 1.0', '"length": 9.0'))
    else:
        manifest.write_text(manifest.read_text()[:100])
    found = inspect(store)
    assert "manifest" in found.damaged[chain[0].key] and len(found.derived) == 2


def test_a_file_that_was_added_to_a_payload_is_damage(store, chain):
    (store.payload(chain[3]) / "pytorch_model.bin").write_text("evil")
    assert "is not in its manifest" in inspect(store).damaged[chain[3].key]


def test_links_logs_and_strange_entries_are_told_and_nothing_is_set_aside(store, chain):
    weights = store.payload(chain[3]) / "model.safetensors"
    weights.rename(store.root / "elsewhere")
    weights.symlink_to(store.root / "elsewhere")
    flip_log = store.directory(chain[2].key) / "side" / "log.txt"
    flip_log.write_text("another log")
    (store.root / "artifacts" / "notes.txt").write_text("mine")
    found = inspect(store)
    text = "\n".join(found.notes)
    assert (
        found.clean and "is a link to" in text and "side/log.txt of" in text and "notes.txt is not an artifact" in text
    )


def test_small_files_are_checked_and_healed(store, chain):
    rows = store.root / "rows" / "sample-1"
    rows.mkdir(parents=True)
    (rows / "batch-a.json").write_bytes(sealed({"a": "word"}).replace(b"word", b"ward"))
    (rows / "batch-b.json").write_bytes(sealed({"b": 1}))
    ids = store.root / "encoded" / ("0a" * 20)
    ids.mkdir()
    whole, changed = (ids / f"preferences-{'0' * 32}-{digest_of_bytes(content)}.arrow" for content in (b"ids", b"jds"))
    for path in (whole, changed):
        path.write_bytes(b"ids")
    record = GateRecord(
        gate="g",
        stage="toy",
        metric="length",
        key=chain[3].key,
        digest="",
        value=1.0,
        minimum=0.5,
        maximum=None,
        action="stop",
        verdict="stopped",
    )
    GateLedger(store).add(record)
    (verdict,) = (store.root / "gates").rglob("*.json")
    verdict.write_bytes(verdict.read_bytes().replace(b"stopped", b"_passed"))
    remember(store, "tiny", {"toy": chain[3].key})
    (note,) = (store.root / "runs").glob("latest-*.json")
    note.write_bytes(note.read_bytes().replace(chain[3].key[-4:].encode(), b"zzzz"))
    record_run(store, {"toy": chain[3]})
    (run,) = (store.root / "runs").glob("run-*.json")
    run.write_bytes(run.read_bytes().replace(b"mine", b"thin"))
    (store.root / "content.sqlite").write_bytes(b"SQLite format 3\0 and then nothing of the kind")
    found = inspect(store)
    assert set(found.caches) == {rows / "batch-a.json", changed, note, run, store.root / "content.sqlite"} and list(
        found.verdicts
    ) == [verdict]
    assert GateLedger(store).records(chain[3].key) == [] and latest(store, "tiny", "toy") is None, (
        "nobody is given what changed"
    )
    set_aside(store, found)
    assert inspect(store).clean and (rows / "batch-b.json").exists() and whole.exists() and not changed.exists()
    GateLedger(store).add(record)
    assert GateLedger(store).records(chain[3].key) == [record]


def test_a_changed_row_of_the_remembered_digests_is_found(store, chain, tmp_path, call_of):
    (tmp_path / "file").write_text("x")
    wait_until(lambda: settled((tmp_path / "file").stat(), time.time_ns()), every=0.02)
    key = call_of(file=str(tmp_path / "file")).key
    with sqlite3.connect(store.root / "content.sqlite") as database:
        database.execute("update stamped set digest = replace(digest, substr(digest, 1, 1), 'z')")
    assert store.root / "content.sqlite" in inspect(store).caches
    assert call_of(file=str(tmp_path / "file")).key == key, "the file is hashed again"
