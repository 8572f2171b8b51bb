"""Artifacts that were made from each other, and damage to them."""

import os

from alignflow.tasks.launch.stage import make_manifest


def publish(store, call):
    """What a stage of this call would leave, without its process."""
    area = store.stage_area(call.key)
    (area / "payload" / "part").mkdir()
    (area / "payload" / "part" / "text.txt").write_text(call.config["text"] * 9)
    (area / "payload" / "model.safetensors").write_text("weights")
    (area / "side" / "log.txt").write_text("a log")
    result = {"metrics": {"length": 1.0}, "warnings": [], "cost": {}}
    return store.publish(area, make_manifest(call, store, area, result)).ref


def flip(path):
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
