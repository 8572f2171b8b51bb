"""Rows that wait on disk between two passes over a table, in chunks: memory does not grow with their number."""

from __future__ import annotations

import json
import marshal
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

Row = dict[str, Any]
_SIMPLE = frozenset({str, int, float, bool, type(None)})


class Spool:
    """A directory for chunks, empty at the beginning of the `with` block and removed at its end, an error's as well.

    What a process that was killed left there is removed by the next one at the same place.
    """

    def __init__(self, place: Path):
        self.place = place
        self._made = 0

    def __enter__(self) -> Spool:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def new(self, suffix: str = ".rows") -> Path:
        """A path that no other chunk has."""
        self._made += 1
        return self.place / f"{self._made:08d}{suffix}"


@dataclass(frozen=True)
class SpooledRows:
    """Rows of some chunks, read again at every iteration.

    Attributes:
        parts: File of a chunk, and which of its rows are meant [rows of the chunk], booleans.
    """

    parts: Sequence[tuple[Path, np.ndarray]]

    def __len__(self) -> int:
        return sum(int(mask.sum()) for _, mask in self.parts)

    def __iter__(self) -> Iterator[Row]:
        return (row for path, mask in self.parts for row in read_rows(path, mask))

    def row(self, number: int) -> Row:
        """One of the rows, counted from 0; raises IndexError where there are fewer."""
        for path, mask in self.parts:
            held = int(mask.sum())
            if number < held:
                only = np.zeros(len(mask), dtype=bool)
                only[np.nonzero(mask)[0][number]] = True
                return next(read_rows(path, only))
            number -= held
        raise IndexError(number)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows: what JSON can hold, and as Python holds it itself, which is faster and exact. Another version of Python may not read them.

    Figures of NumPy and other kinds of list and text become Python's own. Raises TypeError for values that JSON does not have, such as arrays.
    """
    listed = list(rows)
    if not _is_pythons(listed):  # marshal would write a figure of NumPy as its bytes, in silence
        listed = json.loads(json.dumps(listed, default=_plain))
    path.write_bytes(marshal.dumps(listed))


def _is_pythons(value: Any) -> bool:
    """Whether a value and all that it holds are of Python's own kinds, and of no kind derived from them."""
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple:
        return kind in _SIMPLE
    for each in value.values() if kind is dict else value:  # noqa: SIM110 - a generator takes twice as long
        if type(each) not in _SIMPLE and not _is_pythons(each):
            return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row of data cannot hold a value of the kind {type(value).__name__}")


def read_rows(path: Path, mask: np.ndarray | None = None) -> Iterator[Row]:
    """The rows of a chunk, which is held; of a `mask` [rows], those at which it is true."""
    if mask is not None and not mask.any():
        return
    rows = marshal.loads(path.read_bytes())
    yield from rows if mask is None else compress(rows, mask)
