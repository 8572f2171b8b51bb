"""Finished steps of made-up runs, for tests of what compares or tells runs."""

import json
import tempfile
from pathlib import Path

from tests_support import as_artifact

from alignflow.data.artifacts import Manifest, file_digest, manifest_text
from alignflow.data.report.body import FinishedStep


def finished_step(root, step, key, curves=(), payload=None, **manifest):
    """A step of a run whose artifact lies in the store at `root`: points of its curves, JSON files of its payload, fields of its manifest."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (payload or {"note.json": {"key": key}}).items():
            (Path(folder) / name).write_text(json.dumps(content))
        made = as_artifact(Path(folder), root, key)
    side = made.parent / "side"
    side.mkdir()
    if curves:
        (side / "curves.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curves))
        manifest["side"] = {"curves.jsonl": file_digest(side / "curves.jsonl")}
    file = made.parent / "manifest.json"
    written = Manifest.model_validate_json(file.read_text()).model_copy(update=manifest)
    file.write_text(manifest_text(written))
    return FinishedStep(step, made)
