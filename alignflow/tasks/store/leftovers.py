"""Recognises entries of a store's folders that alignflow made itself, by a strict pattern for each kind and by content.

Everything else belongs to somebody else and is never touched. Links are not followed and not touched
either.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alignflow.data import catalogue
from alignflow.data.artifacts import read_manifest
from alignflow.data.errors import AlignflowError
from alignflow.tasks.store.gates import read_record

AREAS = ("artifacts", "gates", "quarantine", "staging", "work", "rows", "encoded", "runs")
KEY = r"(?P<stage>[a-z][a-z0-9_]*)-[0-9a-f]{40}"
_ATTEMPT = r"@[A-Za-z0-9._]+-[0-9]+-[0-9a-f]{8}"
_PATTERNS = {
    "quarantine": re.compile(
        rf"{KEY}-[0-9]{{18,20}}(-[a-z]+)?|removed-[0-9]{{18,20}}-[0-9]+|verdict-[a-z][a-z0-9_]*-[0-9a-f]{{40}}-[0-9]{{18,20}}\.json"
    ),
    "staging": re.compile(rf"(?P<key>{KEY})({_ATTEMPT})?"),
    "work": re.compile(rf"(?P<key>{KEY})({_ATTEMPT})?"),
    "rows": re.compile(r"(?P<stage>[a-z][a-z0-9_]*)-[0-9a-f]{16}"),
    "encoded": re.compile(r"[0-9a-f]{40}"),
    "runs": re.compile(
        rf"latest-[0-9a-f]{{16}}\.(json|tmp)|run-[0-9]{{20}}-[0-9a-f]{{8}}\.json|\.(latest-[0-9a-f]{{16}}|run-[0-9]{{20}}-[0-9a-f]{{8}})\.json\.[0-9a-f]+|(?P<key>{KEY})({_ATTEMPT})?(-node-[0-9]+)?\.log"
    ),
}
_WHEN = re.compile(r"-([0-9]{18,20})(?=[-.]|\Z)")
_IN_STAGING = re.compile(
    r"payload|side|(spec|result|error|stat|manifest)(-[0-9]+)?\.(json|tmp)|\.(stat|manifest)\.json\.[0-9a-f]+"
)
_IN_ROWS = re.compile(
    r"batch-[0-9a-f]{32}\.json|\.batch-[0-9]+-[0-9a-f]+-[0-9a-f]{32}|\.replies-[0-9a-f]+-[0-9]+-[0-9a-f]{8}\.jsonl|\.now-[A-Za-z0-9_]+"
)
_IN_ENCODED = re.compile(
    r"[a-z_]+-[0-9a-f]{32}-[0-9a-f]{64}\.arrow|\.encoding-[0-9]+-[0-9a-f]+-[a-z_]+-[0-9a-f]{32}-|\.now-[A-Za-z0-9_]+"
)
_IN_GATES = re.compile(r"\.?[0-9]{20}-[0-9]+(\.json)?")


@dataclass(frozen=True)
class Entry:
    """A file or directory that alignflow made.

    Attributes:
        area: Its folder in the store.
        path: Its path.
        key: The key of its stage call; empty if it belongs to none.
    """

    area: str
    path: Path
    key: str = ""


def entries(root: Path) -> tuple[list[Entry], list[Path]]:
    """Entries in gc's folders that alignflow made, and entries that it did not make."""
    ours: list[Entry] = []
    others: list[Path] = []
    for area in AREAS:
        folder = root / area
        if folder.is_symlink():  # it may point to somebody else's files
            others.append(folder)
            continue
        for item in _listed(folder):
            entry = _made_here(area, item)
            if entry:
                ours.append(entry)
            elif not item.name.startswith(".now-"):  # another process is reading the clock
                others.append(Path(item.path))
    return ours, others


def set_aside_at(path: Path) -> int:
    """When an entry of quarantine/ was set aside, in ns since 1970; 0 for entries that gc had started to remove."""
    return 0 if path.name.startswith("removed-") else int(_WHEN.findall(path.name)[-1])


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory. Links are not followed; files that vanish meanwhile count 0."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _made_here(area: str, item: os.DirEntry[str]) -> Entry | None:
    path = Path(item.path)
    folder = item.is_dir(follow_symlinks=False)
    if item.is_symlink() or (folder and area == "runs") or (not folder and area not in ("runs", "quarantine")):
        return None
    if area in ("artifacts", "gates"):
        return Entry(area, path, item.name) if _NAMES_ITSELF[area](path) else None
    match = _PATTERNS[area].fullmatch(item.name)
    if not match or not _holds_what_we_write(area, path):
        return None
    found = match.groupdict()
    if found.get("stage") and found["stage"] not in catalogue.STAGES:
        return None
    return Entry(area, path, found.get("key") or "")


def _holds_what_we_write(area: str, path: Path) -> bool:
    pattern = {"staging": _IN_STAGING, "rows": _IN_ROWS, "encoded": _IN_ENCODED}.get(area)
    if area == "work" and "@" in path.name:
        return all(item.name in (path.name.partition("@")[0], "left") for item in _listed(path))
    return pattern is None or all(pattern.fullmatch(item.name) for item in _listed(path))


def _is_artifact(path: Path) -> bool:
    try:
        return read_manifest(path).key == path.name
    except (OSError, ValueError, AlignflowError):
        return False


def _is_verdicts(path: Path) -> bool:
    """Whether a folder contains only verdicts of gates on the artifact that it is named after."""
    for item in _listed(path):
        if not _IN_GATES.fullmatch(item.name) or not item.is_file(follow_symlinks=False):
            return False
        if item.name.endswith(".json"):
            try:
                if read_record(Path(item.path)).key != path.name:
                    return False
            except (OSError, ValueError):
                return False
    return re.fullmatch(r"[a-z][a-z0-9_]*-[0-9a-f]+", path.name) is not None


_NAMES_ITSELF: dict[str, Callable[[Path], bool]] = {"artifacts": _is_artifact, "gates": _is_verdicts}


def _listed(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        yield from sorted(found, key=lambda item: item.name)
