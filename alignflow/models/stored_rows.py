"""Rows of token ids that stay on disk: each becomes an `EncodedRow` when a step asks for it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from alignflow.data.encoded_kinds import EncodedKind
from alignflow.data.encoded_rows import EncodedRows
from alignflow.data.encoded_tables import EncodedTable
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group


def open_rows(table: Path, kind: EncodedKind, tokenizer: Any, run: Run) -> EncodedRows:
    """The token ids of a table's rows, from a file that the first process of each machine makes if it is missing.

    Every process of a stage must call it.

    Raises:
        TemplateRefusedError: the chat template refuses a row.
    """
    encoded = EncodedTable(table, kind, tokenizer, run)
    group.first_of_each_machine(encoded.make())
    return encoded.open()


class Picked(Sequence[Any]):
    """A sequence whose items are read when they are asked for.

    Args:
        positions: (items,) positions in `source` of the items, in their order.
        source: Gives an item by its position.
    """

    def __init__(self, positions: np.ndarray, source: Any):
        self.positions, self._source = positions, source

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._source[int(position)] for position in self.positions[index]]
        return self._source[int(self.positions[index])]


class StoredRows(Sequence[EncodedRow]):
    """One answer of some of the rows of a file; an item is read from the file when it is asked for.

    Args:
        encoded: The file.
        answer: Name of the answer.
        positions: (rows,) rows of the file, in the order in which they are wanted.
    """

    def __init__(self, encoded: EncodedRows, answer: str, positions: np.ndarray):
        self._encoded, self._answer, self._positions = encoded, answer, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> EncodedRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedRow]: ...
    def __getitem__(self, index: int | slice) -> EncodedRow | list[EncodedRow]:
        if isinstance(index, slice):
            return [self._row(position) for position in self._positions[index]]
        return self._row(self._positions[index])

    def _row(self, position: int) -> EncodedRow:
        return EncodedRow(*self._encoded.answer(int(position), self._answer))

    @property
    def lengths(self) -> array[int]:
        """Tokens of each row, without reading its ids."""
        return plain(self._encoded.lengths(self._answer)[self._positions])

    @property
    def supervised(self) -> array[int]:
        """Tokens that count of each row, without reading its ids."""
        return plain(self._encoded.supervised[self._answer][self._positions])

    def reordered(self, order: Sequence[int]) -> StoredRows:
        """The rows at these places, in this order."""
        return type(self)(self._encoded, self._answer, self._positions[list(order)])


class LastTurns(StoredRows):
    """The same rows, but only the last run of tokens that count does count: the last assistant turn of a conversation.

    If the chat template writes nothing between two turns, they are one run.
    """

    def _row(self, position: int) -> EncodedRow:
        row = super()._row(position)
        counts = row.mask or (True,) * len(row.completion_ids)
        last = max((place for place, counted in enumerate(counts) if counted), default=-1)
        first = next((place + 1 for place in range(last, -1, -1) if not counts[place]), 0)
        return replace(row, mask=tuple(first <= place <= last for place in range(len(counts))))

    @property
    def supervised(self) -> array[int]:
        """Tokens that count of each row, without reading its ids."""
        return plain(self._encoded.last_runs(self._answer)[self._positions])

    @classmethod
    def of(cls, rows: StoredRows) -> LastTurns:
        """The last turns of `rows`."""
        return cls(rows._encoded, rows._answer, rows._positions)


def plain(numbers: np.ndarray) -> array[int]:
    """The same numbers in four bytes each, as a sequence of Python's int."""
    return array("i", numbers.astype(np.int32).tobytes())
