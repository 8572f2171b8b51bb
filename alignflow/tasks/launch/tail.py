"""Follows the logs of a running stage and its shards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

POLL_S = 0.5
LONGEST_LINE = 2000


class Tail:
    """Passes on the lines of a file as they are written, in a separate thread; the file may appear, move and be replaced."""

    def __init__(self, path: Path, hear: Callable[[str], None]):
        self._path, self._hear = path, hear
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tail", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on the remaining lines and stop."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(POLL_S):
            self._read()
        self._read()
        if self._rest:
            self._say(self._rest)
        if self._file:
            self._file.close()

    def _read(self) -> None:
        """Read what was written, then check whether the file was replaced: the old file's last lines come first."""
        self._take()
        if self._another():
            self._take()

    def _take(self) -> None:
        if self._file is not None:
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            for line in lines:
                self._say(line)

    def _another(self) -> bool:
        try:
            if self._file is not None and os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                return False
            file = self._path.open("rb")
        except OSError:
            return False
        if self._file is not None:
            self._file.close()
        self._file, self._rest = file, b""
        return True

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        if text:
            self._hear(text[:LONGEST_LINE])


class Tails:
    """Passes on the lines of all new files that match a pattern below a directory, each with its file, until closed.

    Files that match at the start are from an earlier run and are not read.
    """

    def __init__(self, directory: Path, pattern: str, hear: Callable[[Path, str], None]):
        self._directory, self._pattern, self._hear = directory, pattern, hear
        self._earlier = set(directory.glob(pattern))
        self._tails: dict[Path, Tail] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tails", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on the remaining lines of each file and stop."""
        self._ended.set()
        self._thread.join()
        for tail in self._tails.values():
            tail.close()

    def _follow(self) -> None:
        while not self._ended.wait(POLL_S):
            self._look()
        self._look()

    def _look(self) -> None:
        for path in sorted(set(self._directory.glob(self._pattern)) - self._earlier - self._tails.keys()):
            self._tails[path] = Tail(path, partial(self._hear, path))
