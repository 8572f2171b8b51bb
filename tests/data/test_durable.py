"""Files and directories that the disk has."""

import os

import pytest

from alignflow.data.durable import sync


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_disk_is_asked_for_the_file_itself_and_no_descriptor_stays_open(tmp_path, monkeypatch, kind):
    path = tmp_path / "written.json"
    path.write_text("{}")
    path = path if kind == "file" else tmp_path
    asked, before = [], os.listdir("/dev/fd")
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append(os.fstat(descriptor).st_ino))
    sync(path)
    assert asked == [path.stat().st_ino] and len(os.listdir("/dev/fd")) == len(before)


def test_an_error_of_the_disk_is_told_and_no_descriptor_stays_open(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    before = os.listdir("/dev/fd")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path)
    assert len(os.listdir("/dev/fd")) == len(before)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")
