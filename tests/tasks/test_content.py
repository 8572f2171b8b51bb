"""Remembered digests are a cache: damaged, locked or read-only, the digests that it gives are those of the files."""

import os
import sqlite3

import pytest

from alignflow.data.artifacts import file_digest
from alignflow.tasks import content
from alignflow.tasks.content import ContentDigests


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("rows")
    return path


def of(root, file, shared=False):
    return ContentDigests(root, shared).of("path", str(file))


def test_a_damaged_database_is_removed_and_made_anew(tmp_path, file):
    (tmp_path / "content.sqlite").write_bytes(os.urandom(5000))
    assert of(tmp_path, file) == file_digest(file)
    with sqlite3.connect(tmp_path / "content.sqlite") as database:
        assert database.execute("select count(*) from digests").fetchone() == (1,)


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
