"""Removes what a store no longer needs: entries that no kept artifact needs, and leftovers of dead processes. What live processes use stays.

A removal is decided twice: when it is shown to the user, and again, under the lock of its key and the lock of all pins,
just before the entry is renamed. Anything that was used or made in between stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alignflow.data.artifacts import read_manifest
from alignflow.data.encoded_place import TABLE_DIGITS
from alignflow.data.errors import AlignflowError
from alignflow.data.host import now_in
from alignflow.tasks.launch.stage import rows_name
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.attempts import last_change
from alignflow.tasks.store.last_good_run import keys_in
from alignflow.tasks.store.leftovers import Entry, entries, set_aside_at
from alignflow.tasks.store.locks import Hold
from alignflow.tasks.store.pins import GATE, ROWS, RUNS, WORK, live_pins, stored_paths
from alignflow.tasks.store.run_records import read_run

DAY_S = 86400.0
UNUSED_FOR_DAYS = 30.0
STAYS = KEPT, IN_USE, RECENT = (
    "a kept artifact needs it",
    "a running process uses it, or has used it since",
    "it was used or set aside not long ago",
)


@dataclass(frozen=True)
class Wish:
    """What to keep.

    Attributes:
        keep: Keys of artifacts to keep, with everything that led to them.
        keep_last: Keep this many of the newest end points (artifacts that no other artifact uses), with everything that led to them.
        unused_for_s: Keep row journals, token ids of tables and files of `runs/` for so many seconds after their last use, and
            quarantined artifacts for so many seconds after they were set aside.
    """

    keep: tuple[str, ...] = ()
    keep_last: int = 3
    unused_for_s: float = UNUSED_FOR_DAYS * DAY_S


@dataclass(frozen=True)
class Plan:
    """What to remove, and what stays although no kept artifact needs it.

    Attributes:
        waste: Entries to remove: newest artifacts first, so that after an interruption every remaining artifact still has its inputs.
        in_use: Entries that a running process uses.
        recent: Entries that were used recently.
        others: Entries that alignflow did not make or cannot read.
    """

    waste: list[Entry]
    in_use: list[Entry]
    recent: list[Entry]
    others: list[Path]


@dataclass(frozen=True)
class _Artifact:
    """What decides about an artifact: creation time, inputs, the row journal of its stage, and its tables."""

    created: str
    takes: frozenset[str]
    rows: str
    tables: frozenset[str]


@dataclass
class _View:
    """A snapshot of the store: what is kept, and what live processes use."""

    kept: set[str]
    used: set[str]
    pins: set[str]
    rows: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)


def collect(
    store: ArtifactStore, keep: Iterable[str], keep_last: int, unused_for_s: float = UNUSED_FOR_DAYS * DAY_S
) -> list[Path]:
    """The entries to remove; see `Wish`."""
    return [entry.path for entry in Collection(store, Wish(tuple(keep), keep_last, unused_for_s)).plan().waste]


class Collection:
    """One garbage collection of a store, from the plan to the removal."""

    def __init__(self, store: ArtifactStore, wish: Wish):
        self._store, self._wish = store, wish
        self._cache: dict[tuple[str, int], _Artifact | None] = {}
        self._shown: set[tuple[str, int]] = set()  # artifacts at the time of the plan, by name and inode
        self._last_use: dict[Path, int] = {}
        self._now_s = 0.0

    def plan(self) -> Plan:
        """What can be removed now."""
        ours, others = entries(self._store.root)
        with self._store.lock(GATE):
            view = self._look(first=True)
        self._now_s = now_in(self._store.root / "quarantine")
        found: dict[str, list[Entry]] = {"": [], IN_USE: [], RECENT: [], KEPT: []}
        for entry in ours:
            self._last_use[entry.path] = _last_use(entry.path, entry.area)
            why = self._why_not(entry, view)
            if not why and entry.key and self._store.is_locked(entry.key):
                why = IN_USE
            found[why].append(entry)
        made = {name: artifact.created for (name, _), artifact in self._cache.items() if artifact}
        artifacts = sorted(
            (entry for entry in found[""] if entry.area == "artifacts"),
            key=lambda entry: made.get(entry.key, ""),
            reverse=True,
        )
        waste = [*artifacts, *(entry for entry in found[""] if entry.area != "artifacts")]
        return Plan(waste, found[IN_USE], found[RECENT], others)

    def remove(self, waste: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
        """Remove entries of the plan one by one; yields each with the reason why it stays, or "" if it is gone."""
        for number, entry in enumerate(waste):
            try:
                yield entry, self._remove(entry, number)
            except OSError as error:
                yield entry, f"it cannot be removed ({error.strerror or error})"

    def _remove(self, entry: Entry, number: int) -> str:
        target = self._store.root / "quarantine" / f"removed-{time.time_ns()}-{number}"
        with self._held(entry) as holds:
            if None in holds:
                return IN_USE
            if why := self._why_not(entry, self._look()):
                return why
            try:
                os.rename(entry.path, target)  # atomic: nobody finds it half-removed
            except FileNotFoundError:
                return ""
            # A lock that we lost because we seemed dead, or a file that was replaced just now.
            if (entry.area == "runs" or any(hold is not None and hold.lost() for hold in holds)) and (
                why := self._why_not(entry, self._look(), target)
            ):
                _put_back(target, entry.path)
                return why
        _delete(target)
        return ""

    @contextlib.contextmanager
    def _held(self, entry: Entry) -> Iterator[list[Hold | None]]:
        """Hold the lock of an entry's key, if it is free, and then the lock of all pins; yields None if the first is taken."""
        with contextlib.ExitStack() as stack:
            holds = [stack.enter_context(self._store.lock_if_free(entry.key))] if entry.key else []
            if None not in holds:
                holds.append(stack.enter_context(self._store.lock(GATE)))
            yield holds

    def _why_not(self, entry: Entry, view: _View, at: Path | None = None) -> str:
        """Why an entry stays; "" if it can be removed. `at` is its current path."""
        if entry.area == "quarantine":
            return RECENT if self._is_recent(set_aside_at(entry.path)) else ""
        if entry.area in ("artifacts", "gates"):
            return KEPT if entry.key in view.kept else IN_USE if entry.key in view.used else ""
        name, stage = entry.path.name, entry.key.rpartition("-")[0]
        if (
            (entry.key and entry.key in view.pins)
            or {f"{ROWS}{name}", f"{RUNS}{name}"} & view.pins
            or (entry.area == "work" and f"{WORK}{stage}" in view.pins)
        ):
            return IN_USE
        if entry.area == "encoded" and name in view.tables:
            return IN_USE
        if entry.area == "staging":
            return ""
        last_use = _last_use(at or entry.path, entry.area)
        if last_use > self._last_use[entry.path]:  # since the user was asked
            return IN_USE
        if entry.area == "work":
            return ""
        if name in view.rows or (
            entry.area == "runs" and not entry.key and _noted_keys(at or entry.path) & (view.kept | view.used)
        ):
            return KEPT
        return RECENT if self._is_recent(last_use) else ""

    def _is_recent(self, when_ns: int) -> bool:
        # A file system's clock may be some milliseconds off ours: a negative age counts as 0.
        return max(0.0, self._now_s - when_ns / 1e9) < self._wish.unused_for_s

    def _look(self, first: bool = False) -> _View:
        """Read pins first and artifacts second: an artifact that a process publishes before it drops its pins is seen in one of the two."""
        pins = live_pins(self._store)
        known = self._artifacts()
        if first:
            self._shown = set(known)
        by_key = {key: artifact for (key, _), artifact in known.items()}
        taken = set().union(*(artifact.takes for artifact in by_key.values()))
        ends = sorted((key for key in by_key if key not in taken), key=lambda key: by_key[key].created, reverse=True)
        new = [key for key, number in known if (key, number) not in self._shown]
        kept = _led_to([*self._wish.keep, *ends[: self._wish.keep_last], *new], by_key)
        used = _led_to(pins, by_key) | pins
        rows = {by_key[key].rows for key in (kept | used) if key in by_key}
        tables = set().union(*(by_key[key].tables for key in used if key in by_key))
        return _View(kept, used, pins, rows, tables)

    def _artifacts(self) -> dict[tuple[str, int], _Artifact]:
        """All artifacts by name and inode; each manifest is read once."""
        with os.scandir(self._store.root / "artifacts") as items:
            found = [(item.name, item.inode()) for item in items]
        for name, number in found:
            if (name, number) not in self._cache:
                self._cache[name, number] = _read(self._store, name)
        return {place: artifact for place in found if (artifact := self._cache[place])}


def _read(store: ArtifactStore, key: str) -> _Artifact | None:
    try:
        manifest = read_manifest(store.directory(key))
    except (OSError, ValueError, AlignflowError):
        return None
    takes = {ref.key for ref in manifest.inputs.values()} | stored_paths(store, manifest.config)
    tables = {digest[:TABLE_DIGITS] for name, digest in manifest.files.items() if name.endswith(".parquet")}
    return _Artifact(
        manifest.created, frozenset(takes), rows_name(manifest.stage, manifest.components), frozenset(tables)
    )


def _led_to(keys: Iterable[str], artifacts: dict[str, _Artifact]) -> set[str]:
    """These artifacts and everything that led to them, if the store still has it."""
    found: set[str] = set()
    queue = list(keys)
    while queue:
        key = queue.pop()
        if key in artifacts and key not in found:
            found.add(key)
            queue.extend(artifacts[key].takes)
    return found


def _noted_keys(path: Path) -> set[str]:
    """The keys in a note or a run's record; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return set(keys_in(path).values())
    with contextlib.suppress(OSError, ValueError):
        return set(read_run(path).steps.values())
    return set()


def _last_use(path: Path, area: str) -> int:
    """When something was last used, in ns of its file system's clock; opening a journal touches its directory."""
    if area not in ("work", "rows", "encoded", "runs"):
        return 0
    try:
        return max(path.lstat().st_mtime_ns, last_change(path) if area == "work" else 0)
    except FileNotFoundError:
        return 0


def _put_back(target: Path, place: Path) -> None:
    """Undo a removal, unless something newer is in the place."""
    with contextlib.suppress(OSError):
        if target.is_dir():
            os.rename(target, place)
        else:
            os.link(target, place)
            target.unlink()


def _delete(target: Path) -> None:
    """Delete a renamed directory or file; another gc may be deleting it too. Links in it are removed, not their targets."""
    if not target.is_dir():
        target.unlink(missing_ok=True)
        return

    def unless_gone(_: object, __: str, what: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(what[1], FileNotFoundError):
            raise what[1]

    shutil.rmtree(target, onerror=unless_gone)
