"""What a store can do without: artifacts that no kept root refers to, and half-done work that nobody holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from alignflow.tasks.attempts import key_of
from alignflow.tasks.store import ArtifactStore


def collect(store: ArtifactStore, keep: Iterable[str], keep_last: int) -> list[Path]:
    """Directories that may go.

    Args:
        store: The store.
        keep: Keys of artifacts to keep, with everything that led to them.
        keep_last: Keep this many of the newest end points (artifacts that no other one took), and what led to them.

    Returns:
        Paths below the store's root: artifacts and the verdicts of gates on them, quarantined ones, and work of keys whose lock nobody holds.
    """
    manifests = {manifest.key: manifest for manifest in store.manifests()}  # newest first
    taken = {ref.key for manifest in manifests.values() for ref in manifest.inputs.values()}
    ends = [key for key in manifests if key not in taken]
    kept: set[str] = set()
    queue = [*keep, *ends[:keep_last]]
    while queue:
        key = queue.pop()
        if key in manifests and key not in kept:
            kept.add(key)
            queue.extend(ref.key for ref in manifests[key].inputs.values())
    waste = [store.directory(key) for key in manifests if key not in kept]
    waste += [path for path in sorted((store.root / "gates").iterdir()) if path.name not in kept]
    waste += sorted((store.root / "quarantine").iterdir())
    for place in ("staging", "work"):
        waste += [path for path in sorted((store.root / place).iterdir()) if not store.is_locked(key_of(path.name))]
    return waste


def size_of(path: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
