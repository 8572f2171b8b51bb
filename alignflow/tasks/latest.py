"""What each recipe took last: for every step the key of the artifact that its latest good run found or made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from alignflow.data.artifacts import Manifest, text_digest
from alignflow.data.run import write_whole
from alignflow.tasks.store import ArtifactStore


def remember(store: ArtifactStore, recipe: str, keys: Mapping[str, str]) -> None:
    """Note the keys that steps of a run of `recipe` (its name) took; other steps keep theirs."""
    with store.lock(f"latest:{recipe}"):
        write_whole(_file(store, recipe), {**_read(store, recipe), **keys})


def latest(store: ArtifactStore, recipe: str, step: str) -> Manifest | None:
    """The artifact that the latest good run of a recipe took for a step, if the store still has it whole."""
    key = _read(store, recipe).get(step)
    return store.find(key) if key else None


def keys_in(path: Path) -> set[str]:
    """The keys that a file of this kind names; none where it cannot be read."""
    try:
        return set(json.loads(path.read_text()).values())
    except (OSError, ValueError, TypeError, AttributeError):
        return set()


def _file(store: ArtifactStore, recipe: str) -> Path:
    """A name of its own for each recipe, and one that no other file of `runs/` has."""
    return store.root / "runs" / f"latest-{text_digest(recipe)[:16]}.json"


def _read(store: ArtifactStore, recipe: str) -> dict[str, str]:
    try:
        return json.loads(_file(store, recipe).read_text())
    except FileNotFoundError:
        return {}
