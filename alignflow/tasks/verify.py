"""A look at every byte of a store that anything uses: what is damaged, and what was derived from it. Looking changes nothing.

`inspect` looks, `set_aside` acts on what it found. A store that cannot be written can be inspected too.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alignflow.data import artifacts
from alignflow.data.artifacts import STAT, Manifest
from alignflow.data.errors import StoreError
from alignflow.data.seals import DIRECTORY_SEAL, SealError, UnsealedError, directory_digests, unsealed
from alignflow.tasks import integrity
from alignflow.tasks.content import damaged_rows, remove_database
from alignflow.tasks.gates import FOLDER, read_record
from alignflow.tasks.latest import keys_in
from alignflow.tasks.store import ArtifactStore

DATABASE = "content.sqlite"


@dataclass(frozen=True)
class Derived:
    """An artifact that was made from a damaged one; `source` is that one's key."""

    key: str
    source: str


@dataclass
class Findings:
    """What a look at a store found.

    Attributes:
        whole: How many artifacts are whole.
        damaged: Key -> what is wrong with the artifact.
        derived: Artifacts that were made from these, directly or not.
        caches: Files that are made anew when they are removed, each with what is wrong: sizes and times, remembered digests, rows.
        verdicts: Verdicts of gates that cannot be trusted, each with what is wrong.
        notes: What a person should know and nothing acts on, one line each.
    """

    whole: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    derived: list[Derived] = field(default_factory=list)
    caches: dict[Path, str] = field(default_factory=dict)
    verdicts: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged or self.caches or self.verdicts)


def inspect(store: ArtifactStore, looks_at: Callable[[str], None] = lambda name: None) -> Findings:
    """Hash everything in a store that something may use; `looks_at` hears the name of each artifact before it is hashed."""
    found = Findings()
    inputs: dict[str, list[str]] = {}
    for directory in sorted((store.root / "artifacts").iterdir()):
        looks_at(directory.name)
        if not directory.is_dir():
            found.notes.append(f"artifacts/{directory.name} is no artifact: nothing uses it")
            continue
        manifest = _artifact(directory, found)
        inputs[directory.name] = [ref.key for ref in manifest.inputs.values()] if manifest else []
    found.derived = derived_from(found.damaged, inputs)
    found.whole = len(inputs) - len(found.damaged)
    _small_files(store, found)
    return found


def derived_from(damaged: dict[str, str], inputs: dict[str, list[str]]) -> list[Derived]:
    """What was made from damaged artifacts, however many steps later, in the order of making; `inputs` is key -> keys it took."""
    source = {key: key for key in damaged}
    grown = True
    while grown:
        new = {key: source[taken] for key, names in inputs.items() if key not in source for taken in names if taken in source}
        source |= new
        grown = bool(new)
    return [Derived(key, origin) for key, origin in source.items() if key not in damaged]


def set_aside(store: ArtifactStore, found: Findings) -> list[str]:
    """Act on findings: damaged artifacts, what was derived from them and damaged verdicts go to quarantine/, caches are removed.

    Artifacts that were sealed by nobody yet are sealed. Returns a line for each thing that was done.
    """
    done = []
    for key, what in found.damaged.items():
        store.quarantine(key, what)
        done.append(f"{key}: {what}; set aside")
    for derived in found.derived:
        store.quarantine(derived.key, f"derived from {derived.source}, which is damaged")
        done.append(f"{derived.key}: derived from {derived.source}; set aside as well, and made again by the next run")
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
    for directory in sorted((store.root / "artifacts").iterdir()):
        with contextlib.suppress(OSError, ValueError):
            manifest = artifacts.read_manifest(directory)
            if not manifest.seal or integrity.known_stats(directory).keys() != manifest.files.keys():
                store.find(manifest.key)  # hashes, seals, and writes down sizes and times
    return done


def would_set_aside(found: Findings) -> list[str]:
    """A line for each thing that `set_aside` would act on."""
    small = [f"{path.name}: {what}" for path, what in (*found.verdicts.items(), *found.caches.items())]
    derived = [f"{each.key}: derived from {each.source}" for each in found.derived]
    return [*(f"{key}: {what}" for key, what in found.damaged.items()), *derived, *small]


def _artifact(directory: Path, found: Findings) -> Manifest | None:
    key = directory.name
    try:
        manifest = artifacts.read_manifest(directory)
        if what := integrity.damage_of(directory, manifest):
            found.damaged[key] = what
            return manifest
    except (FileNotFoundError, ValueError) as error:
        if directory.exists():  # not removed or set aside meanwhile
            found.damaged[key] = integrity.distrust(error)
        return None
    except OSError as error:
        raise StoreError(f"{key} cannot be read ({error})", where=str(directory), do="check the disk and its cables, then run it again") from error
    _beside(directory, manifest, found)
    return manifest


def _beside(directory: Path, manifest: Manifest, found: Findings) -> None:
    """What stands beside a payload that is whole: logs and curves, sizes and times, links."""
    key = directory.name
    if not manifest.seal:
        found.notes.append(f"{key} is of an older alignflow, whose manifests carry no digest: its metrics are taken as they stand")
    for name in integrity.side_damage(directory, manifest):
        if manifest.stage == "report":  # its page is what a person reads
            found.damaged[key] = f"side/{name} changed on disk"
        else:
            found.notes.append(f"side/{name} of {key} changed on disk: reports leave it out; `--force {manifest.stage}` makes it again")
    if integrity.known_stats(directory).keys() != manifest.files.keys():
        found.caches[directory / STAT] = "sizes and times are missing or damaged"
    for path in (directory, *directory.rglob("*")):
        if path.is_symlink():
            found.notes.append(f"artifacts/{path.relative_to(directory.parent)} is a link to {os.readlink(path)}: its bytes are right now")


def _small_files(store: ArtifactStore, found: Findings) -> None:
    """Row journals, verdicts, remembered digests and keys, saved training states."""
    old: dict[str, int] = {}
    for path, what in _batches(store.root):
        if what:
            found.caches[path] = what
    for path in sorted((store.root / FOLDER).glob("*/*.json")):
        if what := _problem(path, read_record):
            found.verdicts[path] = what
        elif _problem(path, lambda file: unsealed(file.read_bytes())):
            old["verdicts of gates"] = old.get("verdicts of gates", 0) + 1
    for path in sorted((store.root / "runs").glob("latest-*.json")):
        if what := _problem(path, keys_in):
            found.caches[path] = what
    for path in sorted((store.root / "content").glob("*/*.json")):
        if what := _problem(path, lambda file: unsealed(file.read_bytes())):
            found.caches[path] = what
    _database(store.root / DATABASE, found)
    for seal in sorted((store.root / "work").rglob(DIRECTORY_SEAL)):
        _state(seal.parent, store.root, found)
    for what, count in old.items():
        found.notes.append(f"{count} {what} are of an older alignflow and carry no digest: they are taken as they stand")


def _batches(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((root / "rows").glob("*/batch-*.json")):
        yield path, _problem(path, lambda file: unsealed(file.read_bytes()))


def _problem(path: Path, read: Callable[[Path], object]) -> str:
    """What is wrong with a small file; nothing for one that is gone meanwhile."""
    try:
        read(path)
    except UnsealedError:
        return "it carries no digest, because an older alignflow wrote it"
    except ValueError as error:
        return f"it is damaged ({' '.join(str(error).split())[:120]})"
    except FileNotFoundError:
        return ""
    return ""


def _database(path: Path, found: Findings) -> None:
    if not path.exists():
        return
    try:
        if wrong := damaged_rows(path):
            found.caches[path] = f"what it says of {len(wrong)} files is damaged"
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            found.caches[path] = f"it is damaged ({error})"
    except (sqlite3.Error, ValueError) as error:
        found.caches[path] = f"it is damaged ({error})"


def _state(directory: Path, root: Path, found: Findings) -> None:
    """A saved training state; one that is damaged is left where it is: the training takes an earlier one."""
    with contextlib.suppress(OSError):  # dropped meanwhile by the training that goes on
        try:
            wrong = [name for name, digest in directory_digests(directory).items() if artifacts.file_digest(directory / name) != digest]
        except SealError:
            wrong = [DIRECTORY_SEAL]
        if wrong:
            found.notes.append(f"{directory.relative_to(root)}/{wrong[0]} changed on disk: the training will not go on from this state")
