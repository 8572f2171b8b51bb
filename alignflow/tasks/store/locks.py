"""Locks of a store: kernel locks on one machine, leases with a heartbeat on several.

A lease is the highest-numbered file in the directory of its lock. To take the lock, a process creates the next number once the
highest one is free: released, its process dead, or without a heartbeat for too long. Exclusive creation
of that file decides, so exactly one taker wins, and nobody has to remove a lease that
may have changed hands meanwhile. A holder that was mistaken for dead sees a higher number.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alignflow.data.artifacts import text_digest
from alignflow.data.host import Host, now_in, stamp, started, this_host

OLD_KEPT = 16  # files of earlier holders to keep: a slow taker that lists the directory while others come and go must see a newer one


class Hold(Protocol):
    """A lock that is held."""

    @property
    def files(self) -> tuple[int, ...]:
        """Open files with which a child can hold the lock too: it is free once every process that has them has ended."""

    def lost(self) -> bool:
        """Whether somebody else took the lock, because its holder seemed dead."""


class Locks(Protocol):
    """Locks by name."""

    def hold(self, name: str) -> contextlib.AbstractContextManager[Hold]:
        """Hold a lock during a block; waits for another holder."""

    def hold_if_free(self, name: str) -> contextlib.AbstractContextManager[Hold | None]:
        """Hold a lock during a block if it is free; yields None without waiting if it is not."""

    def is_held(self, name: str) -> bool:
        """Whether a process holds the lock now."""

    def forget(self, name: str) -> None:
        """Remove the files of a lock that nobody holds or will use again."""


class FileLocks:
    """Kernel locks, for one machine. The kernel frees those of a killed process."""

    def __init__(self, directory: Path):
        self._directory = directory

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        """As `Locks.hold`."""
        with open(self._file(name), "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _Kept((file.fileno(),))

    @contextlib.contextmanager
    def hold_if_free(self, name: str) -> Iterator[Hold | None]:
        """As `Locks.hold_if_free`."""
        with open(self._file(name), "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield _Kept((file.fileno(),))

    def is_held(self, name: str) -> bool:
        """As `Locks.is_held`."""
        return _is_flocked(self._file(name))

    def forget(self, name: str) -> None:
        """As `Locks.forget`."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._directory / (text_digest(name)[:40] + ".lock")


@dataclass(frozen=True)
class _Kept:
    """A kernel lock, which cannot be lost."""

    files: tuple[int, ...]

    def lost(self) -> bool:
        return False


def any_file_lock(directory: Path) -> bool:
    """Whether a process holds a lock of `FileLocks` in `directory`."""
    return any(_is_flocked(path) for path in directory.glob("*.lock"))


def _is_flocked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)  # must not create the file
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@dataclass(frozen=True)
class Periods:
    """Times of leases, in seconds; stored in the store, so that they are the same on all machines that share it.

    Attributes:
        beat_s: Time between two heartbeats of a holder.
        expiry_s: A lease can be taken over after so long without a heartbeat.
        poll_s: Time between two checks of a waiting process.
    """

    beat_s: float = 10.0
    expiry_s: float = 60.0
    poll_s: float = 0.5


class Leases:
    """Locks as files with a heartbeat, for machines that mount one folder.

    Ages are differences between two timestamps of the folder's file server; no machine's clock is used. A dead process
    of this host is detected at once, one of another host after `expiry_s`.

    Args:
        directory: Directory of the locks, on the shared mount.
        periods: Heartbeat, expiry, polling.
        host: A different host, for tests.
    """

    def __init__(self, directory: Path, periods: Periods | None = None, host: Host | None = None):
        self._directory, self._periods, self._host = directory, periods or Periods(), host or this_host()

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        """See `Locks.hold`; a thread keeps the lease alive during the block."""
        while (lease := self.try_hold(name)) is None:
            time.sleep(self._periods.poll_s * random.uniform(0.5, 1.0))
        with self._kept_alive(lease):
            yield lease

    @contextlib.contextmanager
    def hold_if_free(self, name: str) -> Iterator[Hold | None]:
        """See `Locks.hold_if_free`; a thread keeps the lease alive during the block."""
        lease = self.try_hold(name)
        if lease is None:
            yield None
            return
        with self._kept_alive(lease):
            yield lease

    @contextlib.contextmanager
    def _kept_alive(self, lease: Lease) -> Iterator[None]:
        end = threading.Event()
        heart = threading.Thread(target=_beat, args=(lease, self._periods.beat_s, end), name="lease", daemon=True)
        heart.start()
        try:
            yield
        finally:
            end.set()
            heart.join()
            lease.give_back()

    def try_hold(self, name: str) -> Lease | None:
        """Take the lock if it is free, without a heartbeat; None if somebody holds it."""
        place = self._place(name)
        place.mkdir(mode=0o700, exist_ok=True)
        number = _highest(place)
        if number and self._is_live(place, number):
            return None
        return self._create(place, number + 1)

    def is_held(self, name: str) -> bool:
        """As `Locks.is_held`."""
        place = self._place(name)
        number = _highest(place) if place.is_dir() else 0
        return bool(number) and self._is_live(place, number)

    def forget(self, name: str) -> None:
        """As `Locks.forget`."""
        shutil.rmtree(self._place(name), ignore_errors=True)

    def _place(self, name: str) -> Path:
        return self._directory / (text_digest(name)[:40] + ".lease")

    def _create(self, place: Path, number: int) -> Lease | None:
        """Create the file of this number; returns None if somebody was faster."""
        pid = os.getpid()
        record = {
            "host": self._host.name,
            "host_id": self._host.id,
            "pid": pid,
            "started": started(pid),
            "token": secrets.token_hex(8),
        }
        path = place / f"{number:012d}"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return None
        with os.fdopen(file, "w") as opened:
            opened.write(json.dumps(record) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        if _highest(place) > number:  # our number was taken and its file removed since we looked
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return None
        for old in sorted(place.glob("[0-9]*"))[: -OLD_KEPT - 1]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return Lease(path, record)

    def _is_live(self, place: Path, number: int) -> bool:
        now = now_in(place)  # before reading the lease: if the mount hangs in between, the lease must not look old
        try:
            # Opening a file makes a network mount ask its server; a bare stat may answer from memory.
            with open(place / f"{number:012d}", encoding="utf-8") as file:
                beaten, text = os.fstat(file.fileno()).st_mtime, file.read()
        except FileNotFoundError:
            return True  # removed: there is a newer one
        with contextlib.suppress(ValueError, KeyError):  # half-written: its age decides
            record = json.loads(text)
            if "given_back" in record:
                return False
            if record["host_id"] == self._host.id and started(record["pid"]) != record["started"]:
                return False
        return now - beaten < self._periods.expiry_s


class Lease:
    """A lock that this process holds as long as there is no higher-numbered file."""

    files: tuple[int, ...] = ()  # only this process can hold a lease: it sends the heartbeat

    def __init__(self, path: Path, record: dict[str, object]):
        self._path, self._record, self._lost = path, record, False

    def beat(self) -> None:
        """Send a heartbeat; raises OSError if the mount does not answer."""
        try:
            file = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            self._lost = True
            return
        try:
            stamp(file)
        finally:
            os.close(file)
        self.lost()

    def lost(self) -> bool:
        """See `Hold.lost`; False if the mount does not answer."""
        if not self._lost:
            with contextlib.suppress(OSError):
                self._lost = _highest(self._path.parent) > int(self._path.name)
        return self._lost

    def give_back(self) -> None:
        """Release the lock at once. If the mount does not answer, the lease expires by its age."""
        if self.lost():
            return
        temporary = self._path.with_name(f".{self._path.name}")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({**self._record, "given_back": True}) + "\n")
            os.replace(temporary, self._path)


def _beat(lease: Lease, every_s: float, end: threading.Event) -> None:
    while not end.wait(every_s) and not lease.lost():
        with contextlib.suppress(OSError):  # the mount may come back before the lease is taken
            lease.beat()


def _highest(place: Path) -> int:
    """The number of the last holder; 0 if there was none."""
    return max((int(name) for name in os.listdir(place) if name.isdigit()), default=0)
