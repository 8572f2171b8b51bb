"""Whether the bytes of an artifact are those that its manifest records: by size and time, or by hashing. Changes no payload."""

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
    """Say something about the store on standard error, once for each process: results are not changed by it."""
    if text not in _TOLD:
        _TOLD.add(text)
        print(f"store: {text}", file=sys.stderr, flush=True)


def distrust(error: Exception) -> str:
    """Why a manifest is not used, in words."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "its manifest is missing"
    return f"its manifest cannot be trusted ({' '.join(str(error).split())[:200]})"


def check(directory: Path, manifest: Manifest, whole: bool = False) -> str:
    """What is wrong with an artifact, or an empty text. Files whose size and time are known are not hashed, unless `whole`.

    Sizes and times are written down anew where they changed, or where stat.json is damaged or missing: it is a cache.
    """
    known = known_stats(directory)
    now = stats(directory, manifest)
    changed = [name for name in manifest.files if whole or now[name] != known.get(name)]
    if damage := damage_of(directory, manifest, changed):
        return damage
    if changed or known.keys() != now.keys():
        with suppress(OSError):  # a store that cannot be written is hashed again next time
            write_stats(directory, manifest)
    return ""


def damage_of(directory: Path, manifest: Manifest, names: list[str] | None = None) -> str:
    """Hash payload files, all by default; what is wrong with the first one that differs from the manifest, or nothing."""
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
    """Names below side/ whose bytes are not those of the manifest; an older manifest records none."""
    side = directory / "side"
    return [
        name
        for name, digest in manifest.side.items()
        if not (side / name).is_file() or artifacts.file_digest(side / name) != digest
    ]


def known_stats(directory: Path) -> dict[str, Any]:
    """What stat.json says; nothing where it is missing or damaged."""
    with suppress(OSError, ValueError):
        known = json.loads((directory / STAT).read_bytes())
        return known if isinstance(known, dict) else {}
    return {}


def stats(directory: Path, manifest: Manifest) -> dict[str, list[int] | None]:
    """Size in bytes and time of change in ns of every payload file; None for one that is missing."""
    return {name: _stat(directory / "payload" / name) for name in manifest.files}


def write_stats(directory: Path, manifest: Manifest) -> None:
    """Remember sizes and times at a full check."""
    write_synced(directory / STAT, json.dumps(stats(directory, manifest)))


def seal_old(root: Path, directory: Path, manifest: Manifest) -> Manifest:
    """Seal an artifact of an older alignflow, all of whose files were hashed just now; a read-only store is left as it is."""
    try:
        raise_schema(root)
        write_synced(directory / MANIFEST, artifacts.manifest_text(manifest))
    except OSError:
        return manifest
    tell(
        f"{manifest.key} is of an older alignflow: all its files were hashed and its manifest was sealed. "
        "Its metrics carried no digest until now, and are taken as they stand"
    )
    return artifacts.read_manifest(directory)


def raise_schema(root: Path) -> None:
    """Mark a store as one that older versions must refuse: they would take a sealed manifest for a damaged one."""
    file = root / STORE_FILE
    with suppress(FileNotFoundError):
        content = json.loads(file.read_text())
        if content["schema_version"] < SCHEMA_VERSION:
            write_synced(file, json.dumps({**content, "schema_version": SCHEMA_VERSION}))


def write_synced(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or what was there, and the disk has it when this returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # others may write the same file now
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
