"""What each recipe took last: for every step the key of the artifact that its latest good run found or made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from alignflow.data.artifacts import Manifest, text_digest
from alignflow.data.seals import SealError, UnsealedError, sealed, unsealed
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.integrity import tell, write_synced


def remember(store: ArtifactStore, recipe: str, keys: Mapping[str, str]) -> None:
    """Note the keys that steps of a run of `recipe` (its name) took; other steps keep theirs."""
    with store.lock(f"latest:{recipe}"):
        write_synced(_file(store, recipe), sealed({**_read(store, recipe), **keys}).decode())


def latest(store: ArtifactStore, recipe: str, step: str) -> Manifest | None:
    """The artifact that the latest good run of a recipe took for a step, if the store still has it whole."""
    key = _read(store, recipe).get(step)
    return store.find(key) if key else None


def _file(store: ArtifactStore, recipe: str) -> Path:
    """A name of its own for each recipe, and one that no other file of `runs/` has."""
    return store.root / "runs" / f"latest-{text_digest(recipe)[:16]}.json"


def _read(store: ArtifactStore, recipe: str) -> dict[str, str]:
    """The keys of a recipe's steps; none where nothing was noted, or where that is damaged: the next good run notes them anew."""
    file = _file(store, recipe)
    try:
        return keys_in(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        tell(f"runs/{file.name} is damaged ({error}): what {recipe!r} took last is forgotten until its next good run")
        return {}


def keys_in(file: Path) -> dict[str, str]:
    """The keys in a file of `remember`; one of an older alignflow carries no digest. Raises OSError, ValueError where it is damaged."""
    data = file.read_bytes()
    try:
        found: dict[str, str] = unsealed(data)
    except UnsealedError:
        found = json.loads(data)
    if not all(isinstance(value, str) for value in found.values()):
        raise SealError("it is not what was written") from None
    return found
