"""What is wrong with an artifact, and which of its files are a cache."""

import json
import os
import subprocess
import sys

import pytest
from stored_chain import flip

from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.integrity import write_synced
from alignflow.tasks.store.verify import inspect, set_aside


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}"])
def test_sizes_and_times_are_a_cache_that_is_made_anew(store, chain, content):
    file = store.directory(chain[3].key) / "stat.json"
    file.write_text(content)
    found = inspect(store)
    assert not found.damaged and list(found.caches) == [file]
    set_aside(store, found)
    assert store.find(chain[3].key) and set(json.loads(file.read_text())) == {"model.safetensors", "part/text.txt"}


def test_an_artifact_of_an_older_alignflow_is_hashed_whole_and_sealed_once(store, chain):
    directory = store.directory(chain[3].key)
    old = {
        name: value
        for name, value in json.loads((directory / "manifest.json").read_text()).items()
        if name not in ("seal", "side")
    }
    (directory / "manifest.json").write_text(json.dumps({**old, "schema_version": 1}))
    (store.root / "store.json").write_text(json.dumps({"schema_version": 1}))
    again = ArtifactStore(store.root)
    assert again.manifest(chain[3].key).seal == ""
    assert again.find(chain[3].key).seal and again.manifest(chain[3].key).digest == chain[3].digest
    assert json.loads((store.root / "store.json").read_text())["schema_version"] == 2, (
        "an older alignflow would take the seal for damage"
    )


def test_an_older_artifact_with_a_changed_byte_is_not_sealed(store, chain):
    directory = store.directory(chain[3].key)
    old = {
        name: value
        for name, value in json.loads((directory / "manifest.json").read_text()).items()
        if name not in ("seal", "side")
    }
    (directory / "manifest.json").write_text(json.dumps({**old, "schema_version": 1}))
    flip(directory / "payload" / "part" / "text.txt")
    assert store.find(chain[3].key) is None and "changed on disk" in store.reasons[chain[3].key]


def test_a_file_is_written_as_utf8_whatever_the_locale_says(tmp_path):
    file = tmp_path / "page.html"
    code = (
        f"from alignflow.tasks.store.integrity import write_synced, Path; write_synced(Path({str(file)!r}), '\\u00e9')"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **plain}, check=True)
    assert file.read_bytes() == "\u00e9".encode()


@pytest.mark.parametrize("text", ["\ud800", "fits"], ids=["a text that no file takes", "a folder in its place"])
def test_a_write_that_fails_leaves_no_temporary_file(tmp_path, text):
    target = tmp_path / "page.html"
    if text == "fits":
        target.mkdir()
    with pytest.raises((UnicodeEncodeError, OSError)):
        write_synced(target, text)
    assert [path for path in tmp_path.iterdir() if path != target] == []
