"""Checks the bytes of an artifact against its manifest, by size and time or by hashing. Changes no payload."""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignflow.data import artifacts
from alignflow.data.artifacts import MANIFEST, SCHEMA_VERSION, STAT, Manifest
from alignflow.data.sharing import STORE_FILE

_TOLD: set[str] = set()


def tell(text: str) -> None:
    """Print a note about the store on stderr, once per process; it does not affect results."""
    if text not in _TOLD:
        _TOLD.add(text)
        print(f"store: {text}", file=sys.stderr, flush=True)


def distrust(error: Exception) -> str:
    """Why a manifest is not used."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "its manifest is missing"
    return f"its manifest cannot be trusted ({' '.join(str(error).split())[:200]})"


def check(directory: Path, manifest: Manifest, whole: bool = False) -> str:
    """What is wrong with an artifact, or "". Files with known size and time are not hashed, unless `whole`.

    stat.json is written again if sizes or times changed, or if it is damaged or missing: it is a cache.
    """
    known = known_stats(directory)
    now = stats(directory, manifest)
    changed = [name for name in manifest.files if whole or now[name] != known.get(name)]
    if damage := damage_of(directory, manifest, changed):
        return damage
    if changed or known.keys() != now.keys():
        with suppress(OSError):  # a read-only store is hashed again next time
            write_stats(directory, manifest)
    return ""


def damage_of(directory: Path, manifest: Manifest, names: list[str] | None = None) -> str:
    """Hash payload files, by default all; returns what is wrong with the first that differs from the manifest, or ""."""
    for name in manifest.files if names is None else names:
        file = directory / "payload" / name
        if not file.is_file():
            return f"{name} is missing"
        if artifacts.file_digest(file) != manifest.files[name]:
            return f"{name} changed on disk"
    if names is None and (extra := artifacts.extra_files(directory / "payload", manifest.files)):
        return f"{extra[0]} is not in its manifest"
    return ""


def side_damage(directory: Path, manifest: Manifest) -> list[str]:
    """Names below side/ whose bytes differ from the manifest; an older manifest records none."""
    side = directory / "side"
    return [
        name
        for name, digest in manifest.side.items()
        if not (side / name).is_file() or artifacts.file_digest(side / name) != digest
    ]


def known_stats(directory: Path) -> dict[str, Any]:
    """The content of stat.json; empty if it is missing or damaged."""
    with suppress(OSError, ValueError):
        known = json.loads((directory / STAT).read_bytes())
        return known if isinstance(known, dict) else {}
    return {}


def stats(directory: Path, manifest: Manifest) -> dict[str, list[int] | None]:
    """Size in bytes and mtime in ns of every payload file; None for a missing file."""
    return {name: _stat(directory / "payload" / name) for name in manifest.files}


def write_stats(directory: Path, manifest: Manifest) -> None:
    """Write sizes and times after a full check."""
    write_synced(directory / STAT, json.dumps(stats(directory, manifest)))


def seal_old(root: Path, directory: Path, manifest: Manifest) -> Manifest:
    """Seal an artifact of an older alignflow whose files were all hashed just now; a read-only store stays unchanged."""
    try:
        raise_schema(root)
        write_synced(directory / MANIFEST, artifacts.manifest_text(manifest))
    except OSError:
        return manifest
    tell(
        f"{manifest.key} is of an older alignflow: all its files were hashed and its manifest was sealed. "
        "Its metrics had no digest until now, so they are trusted"
    )
    return artifacts.read_manifest(directory)


def raise_schema(root: Path) -> None:
    """Mark a store as one that older versions must refuse: they would consider a sealed manifest damaged."""
    file = root / STORE_FILE
    with suppress(FileNotFoundError):
        content = json.loads(file.read_text())
        if content["schema_version"] < SCHEMA_VERSION:
            write_synced(file, json.dumps({**content, "schema_version": SCHEMA_VERSION}))


def write_synced(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees either the old or the new content. It is synced to disk on return."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # others may write the same file at this moment
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _stat(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
