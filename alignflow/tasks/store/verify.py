"""Checks every byte in use in a store: finds damaged entries and everything derived from them. The check changes nothing.

`inspect` checks, `set_aside` acts on the findings. A read-only store can be inspected too.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from alignflow.data import artifacts
from alignflow.data.artifacts import STAT, Manifest
from alignflow.data.encoded_place import check_whole
from alignflow.data.errors import AlignflowError
from alignflow.data.seals import DIRECTORY_SEAL, SealError, UnsealedError, directory_digests, unsealed
from alignflow.tasks.keys.content import damaged_rows, remove_database
from alignflow.tasks.store import integrity
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gates import FOLDER, read_record
from alignflow.tasks.store.last_good_run import keys_in
from alignflow.tasks.store.pins import stored_paths
from alignflow.tasks.store.run_records import PATTERN, read_run
from alignflow.tasks.store.store_root import disk_error

DATABASE = "content.sqlite"
OLD = "it has no digest, because an older alignflow wrote it"
_VERDICTS, _BATCHES, _DIGESTS = "verdicts of gates", "batches of row journals", "remembered digests"
_OF_OLD = {
    _VERDICTS: "they are trusted",
    _BATCHES: "the next run that needs their rows computes them again",
    _DIGESTS: "the files are hashed again",
}
MOVED = "left alone, because it is in use, or was set aside or made again meanwhile: run `alignflow verify` again"


@dataclass(frozen=True)
class Derived:
    """An artifact that was made from a damaged one; `source` is the key of the damaged one."""

    key: str
    source: str


@dataclass
class Findings:
    """The findings of a check.

    Attributes:
        whole: Number of intact artifacts that were made from intact ones.
        damaged: Key -> what is wrong with the artifact.
        derived: Artifacts that were made from damaged ones, directly or not.
        caches: Damaged files that can be removed because they are made again, each with what is wrong: sizes and times, remembered digests, rows, token ids.
        verdicts: Damaged verdicts of gates, each with what is wrong.
        unreadable: Files and folders that could not be read, each with the system's reason. They are only reported.
        notes: Notes for the user, one line each.
        inodes: Key -> inode of the artifact's directory during the check: an artifact that is made again has another.
    """

    whole: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    derived: list[Derived] = field(default_factory=list)
    caches: dict[Path, str] = field(default_factory=dict)
    verdicts: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    inodes: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether everything could be read and nothing is damaged."""
        return not (self.damaged or self.caches or self.verdicts or self.unreadable)

    def cannot_read(self, path: Path, error: OSError) -> None:
        """Note a file or folder that cannot be read."""
        self.unreadable[path] = error.strerror or str(error)


def inspect(store: ArtifactStore, looks_at: Callable[[str], None] = lambda name: None) -> Findings:
    """Hash everything in a store that may be used; `looks_at` is called with the name of each artifact before it is hashed.

    Unreadable files are noted, and the check goes on.
    """
    found = Findings()
    inputs: dict[str, list[str]] = {}
    for directory in _listed(store.root / "artifacts", found):
        looks_at(directory.name)
        manifest = _artifact(directory, found)
        if manifest:
            inputs[directory.name] = [
                *(ref.key for ref in manifest.inputs.values()),
                *sorted(stored_paths(store, manifest.config)),
            ]
    found.derived = derived_from(found.damaged, inputs)
    unreadable = {path.name for path in found.unreadable}
    found.whole = len(inputs.keys() - found.damaged.keys() - {each.key for each in found.derived} - unreadable)
    _small_files(store, found)
    return found


def derived_from(damaged: dict[str, str], inputs: dict[str, list[str]]) -> list[Derived]:
    """Artifacts made from damaged ones, directly or not, in the order of creation; `inputs` is key -> keys of its inputs."""
    source = {key: key for key in damaged}
    grown = True
    while grown:
        new = {
            key: source[taken]
            for key, names in inputs.items()
            if key not in source
            for taken in names
            if taken in source
        }
        source |= new
        grown = bool(new)
    return [Derived(key, origin) for key, origin in source.items() if key not in damaged]


def set_aside(store: ArtifactStore, found: Findings) -> list[str]:
    """Act on findings: damaged artifacts, artifacts derived from them and damaged verdicts go to quarantine/, caches are removed.

    An artifact that is being made now, or was made again since the check, is left alone. Artifacts without a
    seal get one. Returns a line for each action, and for each entry that was left alone.
    """
    done = []
    for key, what in found.damaged.items():
        gone = _quarantined(store, found, key, what)
        done.append(f"{key}: {what}; {'set aside' if gone else MOVED}")
    for derived in found.derived:
        gone = _quarantined(store, found, derived.key, f"derived from {derived.source}, which is damaged")
        done.append(
            f"{derived.key}: derived from {derived.source}; {'set aside as well, and made again by the next run' if gone else MOVED}"
        )
    for path, what in found.verdicts.items():
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, store.root / "quarantine" / f"verdict-{path.parent.name}-{time.time_ns()}.json")
        done.append(f"{path.relative_to(store.root)}: {what}; set aside, the gate decides again")
    for path, what in found.caches.items():
        if path.name == DATABASE:
            remove_database(path)
        else:
            path.unlink(missing_ok=True)
        done.append(f"{path.relative_to(store.root)}: {what}; removed, and made again when it is needed")
    for directory in _listed(store.root / "artifacts", found):
        with contextlib.suppress(OSError, ValueError, AlignflowError):  # unreadable files were noted
            manifest = artifacts.read_manifest(directory)
            if not manifest.seal or integrity.known_stats(directory).keys() != manifest.files.keys():
                store.find(manifest.key)  # hashes, seals, and writes sizes and times
    return done


def _quarantined(store: ArtifactStore, found: Findings, key: str, why: str) -> bool:
    """Quarantine an artifact if it is still the one that was checked, perhaps an hour ago, and nobody is making it now."""
    with store.lock_if_free(key) as hold:
        try:
            same = hold is not None and os.stat(store.directory(key)).st_ino == found.inodes.get(key)
            if same:
                store.quarantine(key, why)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_error(error, store.directory(key)) from error
        return same


def would_set_aside(found: Findings) -> list[str]:
    """A line for each entry that `set_aside` would act on."""
    small = [f"{path.name}: {what}" for path, what in (*found.verdicts.items(), *found.caches.items())]
    derived = [f"{each.key}: derived from {each.source}" for each in found.derived]
    return [*(f"{key}: {what}" for key, what in found.damaged.items()), *derived, *small]


def unreadable_lines(found: Findings, root: Path) -> list[str]:
    """A line for each file or folder that could not be read."""
    return [f"{path.relative_to(root)}: it cannot be read ({why})" for path, why in found.unreadable.items()]


def _artifact(directory: Path, found: Findings) -> Manifest | None:
    """Check one artifact; returns its manifest if it is intact."""
    key, manifest = directory.name, None
    try:
        if not directory.is_dir():
            found.notes.append(f"artifacts/{key} is not an artifact: nothing uses it")
            return None
        found.inodes[key] = os.stat(directory).st_ino
        manifest = artifacts.read_manifest(directory)
        if what := integrity.damage_of(directory, manifest):
            found.damaged[key] = what
        else:
            _beside(directory, manifest, found)
    except (FileNotFoundError, ValueError) as error:
        if directory.exists():  # it was not removed or set aside meanwhile
            found.damaged[key] = "a file vanished while it was hashed" if manifest else integrity.distrust(error)
    except OSError as error:
        found.cannot_read(directory, error)
    return manifest


def _beside(directory: Path, manifest: Manifest, found: Findings) -> None:
    """Check what is next to an intact payload: logs and curves, sizes and times, links."""
    key = directory.name
    if not manifest.seal:
        found.notes.append(f"{key} is of an older alignflow, whose manifests have no digest: its metrics are trusted")
    for name in integrity.side_damage(directory, manifest):
        if manifest.stage == "report":  # the page in side/ is the report that people read
            found.damaged[key] = f"side/{name} changed on disk"
        else:
            found.notes.append(
                f"side/{name} of {key} changed on disk: reports leave it out; `--force {manifest.stage}` makes it again"
            )
    if integrity.known_stats(directory).keys() != manifest.files.keys():
        found.caches[directory / STAT] = "sizes and times are missing or damaged"
    for path in (directory, *directory.rglob("*")):
        if path.is_symlink():
            found.notes.append(
                f"artifacts/{path.relative_to(directory.parent)} is a link to {os.readlink(path)}: its bytes are correct at the moment"
            )


def _small_files(store: ArtifactStore, found: Findings) -> None:
    """Check row journals, token ids of tables, verdicts, remembered digests and keys, saved training states."""
    old: Counter[str] = Counter()
    for path in _files(store.root / FOLDER, "*.json", found):
        if what := _problem(path, read_record, found):
            found.verdicts[path] = what
        elif _problem(path, _unsealed, found) == OLD:
            old[_VERDICTS] += 1
    for folder, pattern, name in (("rows", "batch-*.json", _BATCHES), ("content", "*.json", _DIGESTS)):
        for path in _files(store.root / folder, pattern, found):
            what = _problem(path, _unsealed, found)
            if what == OLD:
                old[name] += 1
            elif what:
                found.caches[path] = what
    for path in _files(store.root / "encoded", "*.arrow", found):
        if what := _problem(path, check_whole, found):
            found.caches[path] = what
    for pattern, read in (("latest-*.json", keys_in), (PATTERN, read_run)):
        for path in _listed(store.root / "runs", found, pattern):
            if what := _problem(path, read, found):
                found.caches[path] = what
    _database(store.root / DATABASE, found)
    for seal in sorted((store.root / "work").rglob(DIRECTORY_SEAL)):
        _state(seal.parent, store.root, found)
    for name, count in old.items():
        found.notes.append(f"{count} {name} are of an older alignflow and have no digest: {_OF_OLD[name]}")


def _listed(folder: Path, found: Findings, pattern: str = "*") -> list[Path]:
    """The entries of a folder by name; empty if there is no folder. A folder that cannot be listed is noted."""
    try:
        return sorted(path for path in folder.iterdir() if fnmatch(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        found.cannot_read(folder, error)
        return []


def _files(folder: Path, pattern: str, found: Findings) -> Iterator[Path]:
    """Files one level below the folders in `folder`."""
    for within in _listed(folder, found):
        yield from _listed(within, found, pattern)


def _unsealed(path: Path) -> object:
    return unsealed(path.read_bytes())


def _problem(path: Path, read: Callable[[Path], object], found: Findings) -> str:
    """What is wrong with a small file; "" if it is fine, gone, or unreadable, which is noted."""
    try:
        read(path)
    except UnsealedError:
        return OLD
    except ValueError as error:
        return f"it is damaged ({' '.join(str(error).split())[:120]})"
    except FileNotFoundError:
        return ""
    except OSError as error:
        found.cannot_read(path, error)
    return ""


def _database(path: Path, found: Findings) -> None:
    try:
        with open(path, "rb"):  # SQLite does not say why it cannot open a file
            pass
        if wrong := damaged_rows(path):
            found.caches[path] = f"its entries for {len(wrong)} files are damaged"
    except FileNotFoundError:
        return
    except OSError as error:
        found.cannot_read(path, error)
    except sqlite3.OperationalError as error:
        if "I/O" in str(error) or "unable to open" in str(error):
            found.unreadable[path] = str(error)
        elif "locked" not in str(error):
            found.caches[path] = f"it is damaged ({error})"
    except (sqlite3.Error, ValueError) as error:
        found.caches[path] = f"it is damaged ({error})"


def _state(directory: Path, root: Path, found: Findings) -> None:
    """Check a saved training state. A damaged one stays where it is: the training uses an earlier one."""
    try:
        wrong = [
            name
            for name, digest in directory_digests(directory).items()
            if artifacts.file_digest(directory / name) != digest
        ]
    except SealError:
        wrong = [DIRECTORY_SEAL]
    except FileNotFoundError:  # the running training has dropped it meanwhile
        return
    except OSError as error:
        found.cannot_read(directory, error)
        return
    if wrong:
        found.notes.append(
            f"{directory.relative_to(root)}/{wrong[0]} changed on disk: the training will not continue from this state"
        )
