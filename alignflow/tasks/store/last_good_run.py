"""The last good artifacts of each recipe: for every step the key that its latest good run found or made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from alignflow.data.artifacts import Manifest, text_digest
from alignflow.data.seals import SealError, UnsealedError, sealed, unsealed
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.integrity import tell, write_synced


def remember(store: ArtifactStore, recipe: str, keys: Mapping[str, str]) -> None:
    """Store the keys of the steps in a run of `recipe` (its name); other steps keep theirs."""
    with store.lock(f"latest:{recipe}"):
        write_synced(_file(store, recipe), sealed({**_read(store, recipe), **keys}).decode())


def latest(store: ArtifactStore, recipe: str, step: str) -> Manifest | None:
    """The artifact that a recipe's latest good run used for a step, if the store still has it intact."""
    key = _read(store, recipe).get(step)
    return store.find(key) if key else None


def _file(store: ArtifactStore, recipe: str) -> Path:
    """A file name that is unique to the recipe in `runs/`."""
    return store.root / "runs" / f"latest-{text_digest(recipe)[:16]}.json"


def _read(store: ArtifactStore, recipe: str) -> dict[str, str]:
    """The keys of a recipe's steps; empty if none are stored or the file is damaged: the next good run writes them again."""
    file = _file(store, recipe)
    try:
        return keys_in(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        tell(
            f"runs/{file.name} is damaged ({error}): the last good artifacts of {recipe!r} are unknown until its next good run"
        )
        return {}


def keys_in(file: Path) -> dict[str, str]:
    """The keys in a file of `remember`; a file of an older alignflow has no digest. Raises OSError, or ValueError if it is damaged."""
    data = file.read_bytes()
    try:
        found: dict[str, str] = unsealed(data)
    except UnsealedError:
        found = json.loads(data)
    if not all(isinstance(value, str) for value in found.values()):
        raise SealError("it is not what was written") from None
    return found
