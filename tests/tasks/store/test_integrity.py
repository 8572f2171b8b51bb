"""What is wrong with an artifact, and which of its files are a cache."""

import json
import os

import pytest

from alignflow.tasks.launch.stage import make_manifest
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.verify import inspect, set_aside


def publish(store, call):
    """What a stage of this call would leave, without its process."""
    area = store.stage_area(call.key)
    (area / "payload" / "part").mkdir()
    (area / "payload" / "part" / "text.txt").write_text(call.config["text"] * 9)
    (area / "payload" / "model.safetensors").write_text("weights")
    (area / "side" / "log.txt").write_text("a log")
    result = {"metrics": {"length": 1.0}, "warnings": [], "cost": {}}
    return store.publish(area, make_manifest(call, store, area, result)).ref


@pytest.fixture
def chain(store, call_of):
    """Three artifacts, each made from the one before, and one that stands alone."""
    first = publish(store, call_of(text="a"))
    second = publish(store, call_of(text="b", source=first))
    third = publish(store, call_of(text="c", source=second))
    return first, second, third, publish(store, call_of(text="d"))


def flip(path):
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


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
