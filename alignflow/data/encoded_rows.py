"""Token ids of a table's rows in an Arrow file that is memory-mapped: whoever trains reads the rows of a step, and no others.

For each answer of a row (a demonstration has one, a pair two) the file has the ids before it, its own ids, and which of these
count. Lengths come from the offsets of the lists, so that a plan of steps reads no ids. Processes that map one file share its
pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

FORMAT = "1"
"""Raised when a file is written in another way; it is part of a file's identity."""
_IDS = pa.list_(pa.int32())
_MAPPED_BATCHES = 64  # kept open: what is mapped is not in memory, but each batch has some Python objects


class AnswerIds(NamedTuple):
    """An answer as token ids.

    Attributes:
        prompt_ids: What stands before it.
        completion_ids: The answer.
        mask: Which tokens of `completion_ids` count; empty for all of them.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[bool, ...] = ()


class RowIds(NamedTuple):
    """A row of a table as it is written.

    Attributes:
        name: The row's id in its table.
        answers: One for each name of the file's answers.
        values: One for each name of the file's values; None where the table has none.
    """

    name: str
    answers: tuple[AnswerIds, ...]
    values: tuple[float | None, ...] = ()


class EncodedRowWriter:
    """Writes rows to a new file, a record batch for each call.

    Args:
        path: The file.
        answers: Names of the answers of each row.
        values: Names of the numbers of each row.
    """

    def __init__(self, path: Path, answers: Sequence[str], values: Sequence[str] = ()):
        self._answers, self._values = tuple(answers), tuple(values)
        columns: list[tuple[str, pa.DataType]] = [("id", pa.string()), *((name, pa.float64()) for name in values)]
        for answer in answers:
            columns += [
                (f"{answer}/prompt_ids", _IDS),
                (f"{answer}/completion_ids", _IDS),
                (f"{answer}/runs", _IDS),
                (f"{answer}/supervised", pa.int32()),
            ]
        self._schema = pa.schema(columns, {"answers": " ".join(self._answers), "values": " ".join(self._values)})
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)

    def __enter__(self) -> EncodedRowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()

    def write(self, rows: Sequence[RowIds]) -> None:
        """Add rows. A prompt that is the one of the row's first answer is written once."""
        columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        for row in rows:
            columns["id"].append(row.name)
            for name, value in zip(self._values, row.values, strict=True):
                columns[name].append(value)
            for number, (name, answer) in enumerate(zip(self._answers, row.answers, strict=True)):
                repeated = number > 0 and answer.prompt_ids == row.answers[0].prompt_ids
                columns[f"{name}/prompt_ids"].append(None if repeated else answer.prompt_ids)
                columns[f"{name}/completion_ids"].append(answer.completion_ids)
                columns[f"{name}/runs"].append(_runs(answer.mask))
                columns[f"{name}/supervised"].append(sum(answer.mask) if answer.mask else len(answer.completion_ids))
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))


class EncodedRows:
    """The rows of a file that `EncodedRowWriter` wrote, memory-mapped.

    Attributes:
        answers: Names of the answers of each row.
        names: The rows' ids in their table.
        prompt_lengths: Answer -> (rows,) int32: tokens before it.
        completion_lengths: Answer -> (rows,) int32: its tokens.
        supervised: Answer -> (rows,) int32: those of its tokens that count.
        repeats: Answer -> (rows,) bool: whether its prompt is that of the first answer.
        values: Name -> (rows,) float64; NaN where the table has none.
    """

    def __init__(self, path: Path):
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batch = lru_cache(_MAPPED_BATCHES)(self._reader.get_batch)
        about = {name: text.decode().split() for name, text in self._reader.schema.metadata.items()}
        self.answers = tuple(about[b"answers"])
        read: dict[str, list[np.ndarray]] = {name: [] for name in self._reader.schema.names if name != "id"}
        repeats: dict[str, list[np.ndarray]] = {answer: [] for answer in self.answers}
        sizes = [0]
        for number in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(number)
            sizes.append(batch.num_rows)
            for name, parts in read.items():
                parts.append(_numbers(batch.column(name)))
            for answer, parts in repeats.items():
                parts.append(batch.column(f"{answer}/prompt_ids").is_null().to_numpy(zero_copy_only=False))
        self._starts = np.cumsum(sizes)
        self.names: Sequence[str] = _Names(self)

        def joined(name: str, kind: type = np.int32) -> np.ndarray:
            return np.concatenate([np.empty(0, kind), *read[name]], dtype=kind)

        self.repeats = {answer: np.concatenate([np.empty(0, bool), *parts]) for answer, parts in repeats.items()}
        self.prompt_lengths = {answer: joined(f"{answer}/prompt_ids") for answer in self.answers}
        for answer in self.answers[1:]:
            self.prompt_lengths[answer] += self.repeats[answer] * self.prompt_lengths[self.answers[0]]
        self.completion_lengths = {answer: joined(f"{answer}/completion_ids") for answer in self.answers}
        self.supervised = {answer: joined(f"{answer}/supervised") for answer in self.answers}
        self.values: Mapping[str, np.ndarray] = {name: joined(name, np.float64) for name in about[b"values"]}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def lengths(self, answer: str) -> np.ndarray:
        """(rows,) int32: tokens of each answer and of what stands before it."""
        lengths: np.ndarray = self.prompt_lengths[answer] + self.completion_lengths[answer]
        return lengths

    def row(self, index: int) -> tuple[AnswerIds, ...]:
        """The answers of a row, in the order of `answers`; those with the first one's prompt share the tuple of its ids."""
        first, *others = (self.answer(index, name, with_prompt=not self.repeats[name][index]) for name in self.answers)
        return (
            first,
            *(
                each._replace(prompt_ids=first.prompt_ids) if self.repeats[name][index] else each
                for name, each in zip(self.answers[1:], others, strict=True)
            ),
        )

    def answer(self, index: int, name: str, with_prompt: bool = True) -> AnswerIds:
        """One answer of a row, on request without the ids before it."""
        batch, place = self.place(index)
        asked = self.answers[0] if self.repeats[name][index] else name
        prompt = _list_at(batch, f"{asked}/prompt_ids", place) if with_prompt else ()
        return AnswerIds(
            prompt, _list_at(batch, f"{name}/completion_ids", place), _mask(_list_at(batch, f"{name}/runs", place))
        )

    def last_runs(self, answer: str) -> np.ndarray:
        """(rows,) int32: how many tokens the last stretch of tokens that count has, for each row's answer; 0 where none counts."""
        found = self.completion_lengths[answer].copy()
        for number, start in enumerate(self._starts[:-1]):
            runs = self._reader.get_batch(number).column(f"{answer}/runs")
            offsets, lengths = runs.offsets.to_numpy(), runs.values.to_numpy()
            counted = np.diff(offsets)
            rows = np.flatnonzero(counted)
            found[start + rows] = lengths[
                offsets[rows + 1] - 1 - (counted[rows] % 2 == 0)
            ]  # a stretch that counts has an even place
        return found

    def place(self, index: int) -> tuple[pa.RecordBatch, int]:
        """The record batch that has a row, and the row's position in it; raises IndexError where there is no such row."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no row {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._batch(number), index - int(self._starts[number])


class _Names(Sequence[str]):
    """The names of a file's rows, each read when it is asked for."""

    def __init__(self, rows: EncodedRows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        batch, place = self._rows.place(range(len(self))[index])
        name: str = batch.column("id")[place].as_py()
        return name


def _numbers(column: pa.Array) -> np.ndarray:
    """The numbers of a column as an array of its own; of lists their lengths, 0 for null."""
    if pa.types.is_list(column.type):
        return np.diff(column.offsets.to_numpy())
    return np.array(column.to_numpy(zero_copy_only=False))


def _list_at(batch: pa.RecordBatch, name: str, place: int) -> tuple[int, ...]:
    column = batch.column(name)
    first, last = column.offsets[place].as_py(), column.offsets[place + 1].as_py()
    return tuple(column.values[first:last].to_numpy().tolist())


def _runs(mask: Sequence[bool]) -> list[int]:
    """A mask as the lengths of its runs, beginning with that of True (0 where there is none); nothing where all tokens count."""
    if all(mask):
        return []
    lengths = [len(list(run)) for _, run in groupby(mask)]
    return lengths if mask[0] else [0, *lengths]


def _mask(runs: Sequence[int]) -> tuple[bool, ...]:
    return tuple(value for number, length in enumerate(runs) for value in [number % 2 == 0] * length)
