"""A journal of replies: a reply that was paid for is on disk before anything else is done with it.

The row journal commits whole batches of rows. This one keeps each reply the moment it arrives, so that a batch that dies in the middle
is not paid for again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alignflow.data.artifacts import canonical_json, text_digest
from alignflow.data.durable import sync
from alignflow.data.host import this_host

PATTERN = ".replies-*.jsonl"
_DIGITS = 32


class _Place(NamedTuple):
    """The place of a reply: file, first byte, number of bytes."""

    path: Path
    start: int
    size: int


class ReplyJournal:
    """Replies on disk by the id of their request: one line of JSON each, behind its digest, in files that only grow.

    Several processes and machines may write at once, each into its own file. A line with a wrong digest is dropped: the last
    one of a process that was killed while it wrote, or one whose bytes changed on disk. `note` gets their number.

    Args:
        directory: The run's directory of rows; created if it is missing.
        note: Called with one sentence about dropped lines.
    """

    def __init__(self, directory: Path, note: Callable[[str], None] = print):
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path = directory / f".replies-{this_host().id}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        torn = damaged = 0
        for path in sorted(directory.glob(PATTERN)):
            found = _read(path)
            self._places.update(found.places)
            torn, damaged = torn + found.torn, damaged + found.damaged
        if torn:
            note(f"{torn} half-written replies of a killed process were dropped: they are requested again")
        if damaged:
            note(f"{damaged} replies whose bytes changed on disk were dropped: they are asked for again")

    def __len__(self) -> int:
        return len(self._places)

    def get(self, identity: str) -> dict[str, Any] | None:
        """The reply to a request; None if there is none, or if its bytes changed since the journal was opened."""
        with self._lock:
            place = self._places.get(identity)
        if place is None:
            return None
        with contextlib.suppress(OSError), open(place.path, "rb") as file:
            file.seek(place.start)
            body = _checked(file.read(place.size))
            if body is not None and body["id"] == identity:
                reply: dict[str, Any] = body["reply"]
                return reply
        return None

    def add(self, identity: str, reply: dict[str, Any]) -> None:
        """Write a reply; it is synced to disk when this returns."""
        text = canonical_json({"id": identity, "reply": reply})
        line = f"{text_digest(text)[:_DIGITS]} {text}\n".encode()
        with self._lock:
            if self._file is None:
                self._file = self._open()
            start = os.lseek(self._file, 0, os.SEEK_END)
            _write_all(self._file, line)
            os.fsync(self._file)
            self._places[identity] = _Place(self._path, start, len(line))

    def close(self) -> None:
        """Close this process's file, which is kept."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(
            OSError
        ):  # some network file systems have no locks; then a torn line may be one that is being written
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync(self._directory)
        return file


class _Found(NamedTuple):
    places: dict[str, _Place]
    torn: int
    damaged: int


def _read(path: Path) -> _Found:
    """The replies of a file; a line without an end is torn, unless the process that writes it is alive."""
    places: dict[str, _Place] = {}
    torn = damaged = 0
    for start, line in _lines(path):
        body = _checked(line)
        if body is not None:
            places[body["id"]] = _Place(path, start, len(line))
        elif line.endswith(b"\n"):
            damaged += 1
        elif not _is_written(path):
            torn += 1
    return _Found(places, torn, damaged)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # gc may have removed it
        start = 0
        for line in file:
            yield start, line
            start += len(line)


def _checked(line: bytes) -> dict[str, Any] | None:
    """The body of a line; None if the line is incomplete or damaged."""
    digest, _, text = line.partition(b" ")
    try:
        written = text.removesuffix(b"\n").decode()
        if not text.endswith(b"\n") or text_digest(written)[:_DIGITS] != digest.decode():
            return None
        body: dict[str, Any] = json.loads(written)
    except ValueError:
        return None
    return body


def _is_written(path: Path) -> bool:
    """Whether a living process has the file open to write."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
