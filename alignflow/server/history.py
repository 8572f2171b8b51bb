"""Prefect's SQLite database in a home: runs, schedules, deployments. A damaged one is set aside, and Prefect makes a new one.

No result depends on it: artifacts are found in the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from alignflow.server.errors import ServerError

NAME = "prefect.db"
READ_LINES, SHOWN_LINES = 80, 15
"""Lines at the end of a server's log that are searched for a cause. If none is found, they are shown."""
PARTS = ("", "-wal", "-shm")
LOCKED_S = 5.0
"""Seconds that another process may hold the database before it counts as locked. A working server holds it for milliseconds."""
LEAST_FREE = 32 << 20
"""Free bytes on the disk that a server needs to start."""
CHECKED_WHOLE = 256 << 20
"""Up to this many bytes the whole database is checked, which takes under a second. Of a larger one only the structure is checked."""

DAMAGED = re.compile(
    r"malformed|not a database|file is encrypted|no such (table|column)|Can't locate revision|database corruption|Could not decode to UTF-8"
)
CAUSES = (
    (
        re.compile(r"database or disk is full|No space left|Errno 28\b|Disk quota|Errno 122\b"),
        "the disk is full",
        "free some space (`alignflow gc`)",
    ),
    (
        re.compile(r"File too large|Errno 27\b"),
        "the limit on file size is reached",
        "raise it: `ulimit -f unlimited`",
    ),
    (re.compile(r"Too many open files|Errno 24\b"), "the limit on open files is too low", "raise it: `ulimit -n 1024`"),
    (
        re.compile(r"can't start new thread|Resource temporarily unavailable|Errno 11\b"),
        "the limit on processes and threads is reached",
        "end other programs, or raise it: `ulimit -u`",
    ),
    (
        re.compile(r"MemoryError|Cannot allocate memory|Errno 12\b"),
        "there is not enough memory",
        "end other programs, or raise `ulimit -v`",
    ),
    (re.compile(r"database is locked"), "another process has locked the database", "end that process"),
    (
        re.compile(r"readonly database|Permission denied|Errno 13\b|Read-only file system|Errno 30\b"),
        "no permission to write the database",
        "check who owns it",
    ),
    (
        re.compile(r"disk I/O error"),
        "the disk reports errors, or is full",
        "look at the system log; free some space (`alignflow gc`)",
    ),
    (re.compile(r"address already in use|Errno 98\b"), "another program listens on the port", "choose another port"),
)
"""(pattern in a server's log, meaning, what to do) tuples."""


class LockedError(ServerError):
    """Another process holds Prefect's database longer than a server would."""


def mend(directory: Path) -> str:
    """Check the database in a Prefect home; call it inside `starting`. Returns a line about a damaged database that was set aside, or "".

    Raises:
        LockedError: another process holds it.
        ServerError: it cannot be read or written: permission, full disk.
    """
    database = directory / NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = os.statvfs(directory)
        if free.f_bavail * free.f_frsize < LEAST_FREE:
            raise _cannot_start("the disk is full", directory, f"free {LEAST_FREE >> 20} MB at least (`alignflow gc`)")
        problem = _problem(database) if database.exists() else ""
        return set_aside(database, problem) if problem else ""
    except (OSError, sqlite3.Error) as error:
        what, do = cause(str(error)) or (str(error), "")
        raise (LockedError if "locked" in what else ServerError)(
            f"the Prefect server cannot start: {what}",
            where=str(database),
            do=do + _holders(database) if "locked" in what else do,
        ) from None


def set_aside(database: Path, problem: str) -> str:
    """Rename a damaged database, so that Prefect makes a new one. Returns a line to show the user."""
    suffix = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    for part in PARTS:
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{database}{part}", f"{database}{part}{suffix}")
    return (
        f"Prefect's database was damaged ({problem}). It is kept as {database}{suffix}, and a new one is made. "
        "Artifacts are not affected. The history of runs and the schedules that you added were in it."
    )


def cause(log: str) -> tuple[str, str] | None:
    """What the log of a server that did not start means and what to do about it, or None if unknown."""
    return next(((what, do) for pattern, what, do in CAUSES if pattern.search(log)), None)


def shows_damage(log: str) -> bool:
    """Whether the log of a server that did not start says that its database is damaged."""
    return DAMAGED.search(log) is not None


def explained(what: str, log_path: Path, log: str) -> ServerError:
    """The error for a server that did not start: the cause if the log names one, otherwise the end of the log."""
    shown = "\n".join(log.splitlines()[-SHOWN_LINES:])
    if shows_damage(log):
        return ServerError("the Prefect server cannot start: its database is damaged", where=str(log_path), do=shown)
    if known := cause(log):
        return ServerError(f"the Prefect server cannot start: {known[0]}", where=str(log_path), do=known[1])
    return ServerError(what, where=str(log_path), do=shown)


def _cannot_start(what: str, where: Path, do: str) -> ServerError:
    return ServerError(f"the Prefect server cannot start: {what}", where=str(where), do=do)


def _problem(database: Path) -> str:
    """What is damaged in a database, in SQLite's words; empty if it is intact. Raises sqlite3.Error if it cannot be checked."""
    if not os.access(database, os.R_OK | os.W_OK):
        raise PermissionError(13, "Permission denied", str(database))
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCKED_S)
        ) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            try:
                if database.stat().st_size <= CHECKED_WHOLE:
                    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                    if found != "ok":
                        return str(found).splitlines()[-1]
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                return "it lacks tables" if tables and "alembic_version" not in tables else ""
            finally:
                connection.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        if shows_damage(str(error)) or getattr(error, "sqlite_errorcode", 0) in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ):
            return str(error)
        raise


@contextlib.contextmanager
def starting(directory: Path) -> Iterator[None]:
    """Hold a lock, so that only one server at a time starts on the database in a Prefect home or sets it aside.

    Two servers that migrate a new database at once break it, and one could mistake the other's half-made database for a damaged one.

    Raises:
        ServerError: the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "start.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        what, do = cause(str(error)) or (str(error), "")
        raise _cannot_start(what, directory, do) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _holders(database: Path) -> str:
    """The processes that have the database open, as far as this user may see them."""
    found, start = [], str(database.resolve())
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(file.path.startswith(start) for file in process.open_files()):
                found.append(f"{process.pid} ({process.info['name']})")
    return f"; it is open in process {', '.join(found)}" if found else ""
