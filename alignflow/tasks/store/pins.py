"""Pins: entries of a store that live processes use now, so that gc keeps them.

A process with pins has a small file under `pins/` that lists artifacts and journals, and holds its own lock as
long as it lives: a kernel lock, or a lease in a shared store. A file whose lock nobody holds is
ignored. Adding pins and removing entries use the same lock, so nothing is pinned and removed at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignflow.data.errors import StoreError
from alignflow.data.host import this_host
from alignflow.tasks.store.store_root import disk_error

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

PLACE = "pins"
GATE = "pins"  # the lock for adding pins and removing entries; taken after the lock of a key, never before it
ROWS, WORK, RUNS = "rows/", "work/", "runs/"
_TOKEN = re.compile(r"[A-Za-z0-9._]+-[0-9]+-[0-9a-f]{16}")


class Pins:
    """The pins of one process.

    Attributes:
        files: Open files with which a child holds the pins too, if the store uses kernel locks.
        lock: The name of the lock that is held as long as the pins; empty if there are none.
    """

    files: tuple[int, ...] = ()
    lock: str = ""

    def add(self, *names: str) -> None:
        """Add pins: keys of artifacts, `rows/NAME` for a journal, `work/STAGE` for unfinished work of a stage, `runs/NAME` for the
        record of a run.

        Call it before you check whether the entry exists: if it exists afterwards, it stays.
        """


class _Held(Pins):
    """Pins in a store that can be written."""

    def __init__(self, store: ArtifactStore, file: Path, files: tuple[int, ...]):
        self._store, self._file, self.files, self.lock = store, file, files, _lock_of(file.stem)
        self._names: set[str] = set()

    def add(self, *names: str) -> None:
        """See `Pins.add`; raises StoreError if the disk is full or fails: nothing is added then."""
        if set(names) <= self._names:
            return
        wanted = self._names | set(names)
        temporary = self._file.with_name(f".{self._file.name}")
        try:
            with self._store.lock(GATE):
                temporary.write_text(json.dumps(sorted(wanted)))
                os.replace(temporary, self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise disk_error(error, self._file) from error
        self._names = wanted  # only now: after a failure another attempt must not consider them pinned


@contextlib.contextmanager
def using(store: ArtifactStore, *names: str) -> Iterator[Pins]:
    """Pin entries, named as in `Pins.add`, during a block, and as long as children that get `files` live.

    A read-only store has no pins, because nothing is removed through it either. Raises StoreError if the
    disk is full or fails.
    """
    if not store.writable:
        yield Pins()
        return
    token = f"{this_host().file_name}-{os.getpid()}-{secrets.token_hex(8)}"
    file = store.root / PLACE / f"{token}.json"
    with contextlib.ExitStack() as stack:
        try:
            hold = stack.enter_context(store.lock(_lock_of(token)))
        except OSError as error:
            raise disk_error(error, file) from error
        pins = _Held(store, file, hold.files)
        try:
            pins.add(*names)
            yield pins
        finally:
            file.unlink(missing_ok=True)
    store.forget_lock(_lock_of(token))


def live_pins(store: ArtifactStore) -> set[str]:
    """Names that live processes have pinned. Call it under the lock `GATE`; files of dead processes are removed.

    Raises:
        StoreError: a live process's file cannot be read, so nothing can be assumed free.
    """
    found: set[str] = set()
    for file in sorted((store.root / PLACE).glob("*.json")):
        if not _TOKEN.fullmatch(file.stem):
            continue
        if not store.is_locked(_lock_of(file.stem)):
            file.unlink(missing_ok=True)
            file.with_name(f".{file.name}").unlink(missing_ok=True)
            store.forget_lock(_lock_of(file.stem))
            continue
        try:
            found.update(map(str, json.loads(file.read_text())))
        except FileNotFoundError:  # it has ended
            continue
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"the pins of a running process cannot be read ({error})",
                where=str(file),
                do="wait until the process has ended, then try again",
            ) from None
    return found


def stored_paths(store: ArtifactStore, config: Any) -> set[str]:
    """Keys of artifacts of this store that a config names by path, for example as the model of another recipe; links are followed."""
    if isinstance(config, dict):
        return set().union(*(stored_paths(store, value) for value in config.values()))
    if isinstance(config, list | tuple):
        return set().union(*(stored_paths(store, value) for value in config))
    return keys_on(store.root, config) if isinstance(config, str) else set()


def keys_on(root: Path, path: str) -> set[str]:
    """Keys of artifacts in the store at `root` that contain an absolute path, as written or after resolving links."""
    if not os.path.isabs(path) or "\0" in path:
        return set()
    place = root / "artifacts"
    places = {os.path.normpath(place), os.path.realpath(place)}
    paths = {os.path.normpath(path), os.path.realpath(path)}
    return {
        name.removeprefix(above + os.sep).partition(os.sep)[0]
        for above in places
        for name in paths
        if name.startswith(above + os.sep)
    }


def _lock_of(token: str) -> str:
    return f"pins:{token}"
