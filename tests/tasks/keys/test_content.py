"""Remembered digests are a cache: damaged, locked or read-only, the digests that it gives are those of the files."""

import os
import sqlite3
import time
from types import SimpleNamespace

import pytest
from waiting import wait_until

from alignflow.data.artifacts import file_digest
from alignflow.tasks.keys import content
from alignflow.tasks.keys.content import ContentDigests, settled


@pytest.fixture
def file(tmp_path):
    """A file that was written long enough ago to be remembered."""
    path = tmp_path / "data.jsonl"
    path.write_text("rows")
    wait_until(lambda: settled(path.stat(), time.time_ns()), every=0.02)
    return path


def of(root, file, shared=False):
    return ContentDigests(root, shared).of("path", str(file))


def test_a_damaged_database_is_removed_and_made_anew(tmp_path, file):
    (tmp_path / "content.sqlite").write_bytes(os.urandom(5000))
    assert of(tmp_path, file) == file_digest(file)
    with sqlite3.connect(tmp_path / "content.sqlite") as database:
        assert database.execute("select count(*) from stamped").fetchone() == (1,)


def test_no_changed_byte_of_the_database_gives_another_digest(tmp_path, file):
    expected = of(tmp_path, file)
    database = tmp_path / "content.sqlite"
    whole = database.read_bytes()
    for offset in [*range(0, 110), *range(len(whole) - 300, len(whole)), *range(110, len(whole), 499)]:
        changed = bytearray(whole)
        changed[offset] ^= 0x11
        database.write_bytes(changed)
        assert of(tmp_path, file) == expected, offset


def test_a_locked_database_is_worked_without(tmp_path, file, monkeypatch):
    monkeypatch.setattr(content, "LOCKED_S", 0.1)
    of(tmp_path, file)
    holder = sqlite3.connect(tmp_path / "content.sqlite")
    holder.execute("begin exclusive")
    assert of(tmp_path, file) == file_digest(file)
    holder.rollback()
    assert (tmp_path / "content.sqlite").exists(), "what is locked is not damaged"


def test_a_damaged_file_of_a_shared_stores_cache_is_written_anew(tmp_path, file):
    expected = of(tmp_path, file, shared=True)
    (cached,) = (tmp_path / "content").rglob("*.json")
    cached.write_bytes(cached.read_bytes().replace(expected[:4].encode(), b"0000"))
    assert of(tmp_path, file, shared=True) == expected
    (tmp_path / "content").joinpath(cached.parent.name, cached.name).write_text("{")
    assert of(tmp_path, file, shared=True) == expected


def edit_unseen(file, text):
    """Write `text`, of the same length, into a file in place, and set its size and time of writing back."""
    before = file.stat()
    with open(file, "r+") as opened:
        opened.write(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_edited_in_place_with_its_size_and_time_restored_is_noticed(tmp_path, file, shared):
    before = of(tmp_path, file, shared)
    edit_unseen(file, "ROWS")
    assert of(tmp_path, file, shared) == file_digest(file) != before


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_replaced_by_another_of_its_size_and_time_is_noticed(tmp_path, file, shared):
    before, found = of(tmp_path, file, shared), file.stat()
    other = tmp_path / "other"
    other.write_text("ROWS")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, file)
    assert of(tmp_path, file, shared) == file_digest(file) != before


def test_edits_within_one_tick_of_the_clock_are_noticed(tmp_path):
    file = tmp_path / "data.jsonl"
    for index in range(200):  # each as soon after the one before as this machine can
        file.write_text(f"{index:04d}")
        os.utime(file, ns=(0, 0))
        assert of(tmp_path, file) == file_digest(file), index


def test_what_did_not_change_is_not_read_again(tmp_path, file, monkeypatch):
    expected = of(tmp_path, file)
    monkeypatch.setattr(content.artifacts, "file_digest", lambda path: pytest.fail("the file is read again"))
    assert of(tmp_path, file) == expected


@pytest.mark.parametrize(
    ("ctime", "age", "expected"),
    [
        (1_000_000_001, 40_000_000, False),
        (1_000_000_001, 60_000_000, True),
        (1_000_000_000, 60_000_000, False),
        (1_000_000_000, 4_000_000_000, True),
    ],
)
def test_a_change_must_be_older_than_the_clock_is_coarse(ctime, age, expected):
    """A time in whole seconds may come from a file system that knows no finer one."""
    assert settled(SimpleNamespace(st_ctime_ns=ctime), ctime + age) is expected


def test_a_table_of_an_older_alignflow_is_made_anew_without_a_warning(tmp_path, file, capsys):
    with sqlite3.connect(tmp_path / "content.sqlite") as database:
        database.execute("create table digests (path text primary key, size int, mtime int, digest text, seal text)")
        database.execute("insert into digests values (?, 4, 0, 'old', 'old')", (str(file),))
    assert of(tmp_path, file) == file_digest(file)
    with sqlite3.connect(tmp_path / "content.sqlite") as database:
        assert [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")] == [
            "stamped"
        ]
    assert capsys.readouterr().err == ""
