"""Pins: what live processes of a store use now, so that gc leaves it alone.

A process that pins has a small file under `pins/` that lists artifacts and journals, and holds a lock of its own for as
long as it lives: one of the kernel, or a lease where machines share the store. A file whose lock nobody holds counts for
nothing. Pins are added, and things removed, under one lock of the store, so that nothing is pinned and removed at once.
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
GATE = (
    "pins"  # the lock under which pins are added and things are removed; taken after the lock of a key, never before it
)
ROWS, WORK, RUNS = "rows/", "work/", "runs/"
_TOKEN = re.compile(r"[A-Za-z0-9._]+-[0-9]+-[0-9a-f]{16}")


class Pins:
    """What one process uses.

    Attributes:
        files: Open files by which a child holds the pins as well, where the kernel's locks are used.
        lock: The name of the lock that is held as long as the pins; empty where there are none.
    """

    files: tuple[int, ...] = ()
    lock: str = ""

    def add(self, *names: str) -> None:
        """Pin more: keys of artifacts, `rows/NAME` for a journal, `work/STAGE` for half-done work of a stage, `runs/NAME` for the
        record of a run.

        Call it before you look whether the thing is there: what is there afterwards stays.
        """


class _Held(Pins):
    """Pins in a store that can be written."""

    def __init__(self, store: ArtifactStore, file: Path, files: tuple[int, ...]):
        self._store, self._file, self.files, self.lock = store, file, files, _lock_of(file.stem)
        self._names: set[str] = set()

    def add(self, *names: str) -> None:
        """As `Pins.add`; raises StoreError where the disk is full or fails: nothing more is pinned then."""
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
        self._names = wanted  # only now: another attempt must not take them for pinned


@contextlib.contextmanager
def using(store: ArtifactStore, *names: str) -> Iterator[Pins]:
    """Pin artifacts and journals for a block, as `Pins.add` names them; also until the end of children that get `files`.

    In a store that cannot be written there are no pins: nothing is removed through it either. Raises StoreError where the
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
        StoreError: a live process's file cannot be read, so that nothing is known to be free.
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
                f"a process that runs does not say what it uses ({error})",
                where=str(file),
                do="wait until it has ended, then try again",
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
    """Keys of artifacts of the store at `root` that an absolute path leads into, as it is written or by the links in it."""
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
