"""Rows of CSV and TSV files, read strictly: a row has as many cells as the first line names, and every quote is closed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any

from alignflow.data.errors import DataError, quoted
from alignflow.data.sources.base import BrokenLine, Row
from alignflow.data.sources.decoding import as_utf8
from alignflow.data.sources.soundness import checked
from alignflow.data.sources.written_lists import is_python, unpacked

csv.field_size_limit(2**31 - 1)

_DELIMITERS = (",", ";", "\t", "|")
_NAMED = re.compile(r"sep=([,;|\t])", re.IGNORECASE)
_NAME = re.compile(r"\"?\w[\w .:/()-]{0,60}\"?")
"""What a column may be called, in quotes or not, in a table whose delimiter is not the usual one."""
_SEEN = 4096
"""Bytes at the start of a file in which its first line is sought."""
_LOOKED_AT = 200
"""Rows at the start of a file that show what its rows look like."""
_ALIKE = 0.9
"""Share of a cell's lines that must look like rows of the file."""
_FEWEST_LINES = 4
"""Lines of a cell that look like rows of two columns from which they are taken for rows; of more columns, two are enough."""


def table(delimiter: str) -> Callable[[IO[bytes], str], Iterator[Row | BrokenLine]]:
    """The reader of tables whose cells are apart by a delimiter, or by another that the first line shows (see `_dialect`).

    It raises DataError, with the number of the line, at a quote that is not closed: where the cell ends nothing says, so
    that rows would be swallowed. A row with too few or too many cells is a broken line, and so is every line of a cell
    that holds whole rows, because two lost quotes enclose them.
    """

    def read(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
        opened = as_utf8(file, where)
        dialect = _dialect(_start(opened), delimiter)
        if dialect.is_named:
            opened.readline()
        with io.TextIOWrapper(opened, encoding="utf-8", errors="surrogateescape", newline="") as lines:
            records = _records(lines, dialect, where)
            _, header = next(records, (0, []))
            names = [name.strip() or f"column {place} (no name)" for place, name in enumerate(header, 1)]
            _check_header(names, where)
            first = list(islice(records, _LOOKED_AT))
            looks = _Looks([cells for _, cells in first])
            for number, cells in chain(first, records):
                swallowed = _rows_in_a_cell(cells, dialect.delimiter, len(names), looks)
                if len(cells) != len(names):
                    yield BrokenLine(number, "wrong_number_of_columns")
                elif swallowed:
                    yield from (BrokenLine(line, "rows_in_a_cell") for line in range(number, number + swallowed))
                elif any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
                    yield BrokenLine(number, "not_utf8")
                else:
                    yield _row(names, cells, number)

    return read


@dataclass(frozen=True)
class _Dialect:
    """How a table is written.

    Attributes:
        delimiter: What stands between two cells.
        is_spaced: Whether a blank follows each delimiter; it belongs to no cell, and a quote may follow it.
        is_named: Whether the file names its delimiter in a line before the header, as Excel writes it: `sep=;`.
    """

    delimiter: str
    is_spaced: bool = False
    is_named: bool = False


def _start(file: io.BufferedReader[Any]) -> str:
    """The first line with something in it, as far as it can be seen without reading on."""
    found = file.peek(_SEEN)[:_SEEN].decode("utf-8", "replace").replace("\r", "\n").split("\n")
    return next((line for line in found if line.strip()), "")


def _dialect(line: str, delimiter: str) -> _Dialect:
    """What the first line of a table shows. Another delimiter is taken only where the usual one divides nothing, and the other gives names."""
    if named := _NAMED.fullmatch(line.strip()):
        return _Dialect(named[1], is_named=True)
    names = line.split(delimiter)
    if len(names) == 1:
        divided = {other: line.split(other) for other in _DELIMITERS if other in line}
        fitting = [other for other, found in divided.items() if all(_NAME.fullmatch(name.strip()) for name in found)]
        if len(fitting) == 1:
            delimiter, names = fitting[0], divided[fitting[0]]
    return _Dialect(delimiter, is_spaced=len(names) > 1 and all(name[:1] == " " for name in names[1:]))


def _records(lines: IO[str], dialect: _Dialect, where: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record that is not blank, with the number of its first line."""
    reader = csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=dialect.is_spaced, strict=True)
    while True:
        number = reader.line_num + 1 + dialect.is_named
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            ended = "unexpected end of data" in str(error)
            found = (
                "the file ends before it is closed"
                if ended
                else f"on line {reader.line_num + dialect.is_named}, {error}"
            )
            raise DataError(
                f"the quotes in the row of line {number} do not enclose a cell: {found}",
                where=where,
                do=f"correct line {number}: close the quote, and write a quote inside of a cell twice",
            ) from None
        if cells:
            yield number, cells


class _Looks:
    """What the rows of a file look like, so that they can be told from lines of an answer that have as many commas."""

    def __init__(self, records: Sequence[Sequence[str]]):
        self.ends: set[tuple[str, str]] = set()
        self.words: list[int] = []
        self.spaced: set[int] = set()
        for cells in records:
            self.add(cells)

    def add(self, cells: Sequence[str]) -> None:
        """Take a row's first cell as one that rows begin with, and note which of the other cells begin with a space."""
        if cells[0] and "\n" not in cells[0]:
            self.ends.add(_ends(cells[0]))
            self.words.append(len(cells[0].split()))
        self.spaced |= {at for at, cell in enumerate(cells) if cell[:1] == " "}

    def fit(self, cells: Sequence[str]) -> bool:
        """Whether cells look like a row: the first one begins, ends and is about as long as others, and a space follows no comma."""
        if (
            not cells[0]
            or not self.words
            or any(cell[:1] == " " for at, cell in enumerate(cells) if at and at not in self.spaced)
        ):
            return False
        return _ends(cells[0]) in self.ends and min(self.words) / 2 <= len(cells[0].split()) <= 2 * max(self.words)


def _ends(cell: str) -> tuple[str, str]:
    """Of what sort the first and the last character of a cell are."""
    first, last = (
        "A" if end.isupper() else "a" if end.isalpha() else "0" if end.isdecimal() else end
        for end in (cell[0], cell[-1])
    )
    return first, last


def _rows_in_a_cell(cells: Sequence[str], delimiter: str, columns: int, looks: _Looks) -> int:
    """How many lines a record has of which one cell holds whole rows; 0 for any other."""
    fewest = _FEWEST_LINES if columns == 2 else 2
    for cell in cells if columns > 1 else ():
        lines = [line.removesuffix("\r").split(delimiter) for line in cell.split("\n")[1:]]
        if len(lines) >= fewest and all(len(line) == columns for line in lines):
            looks.add(cells[:1])
            if sum(looks.fit(line) for line in lines) >= _ALIKE * len(lines):
                return 1 + sum(cell.count("\n") for cell in cells)
    return 0


def _check_header(names: Sequence[str], where: str) -> None:
    """Refuse a first line that names no columns, or one column twice: which of the two is meant, nothing says."""
    if any(not name.isprintable() for name in names):
        raise DataError("the first line is not text with the names of columns", where=where, do="check the file")
    if double := next((name for name in names if list(names).count(name) > 1), None):
        raise DataError(
            f"two columns are called {quoted(double)}", where=where, do="give each column a name of its own"
        )


def _row(names: Sequence[str], cells: Sequence[str], number: int) -> Row | BrokenLine:
    row: Row = {}
    for name, cell in zip(names, cells, strict=True):
        if is_python(name, cell):
            return BrokenLine(
                number, "python_and_not_json"
            )  # pandas writes lists so; as a text it would be trained as it stands
        try:
            row[name] = unpacked(name, cell)
        except RecursionError:
            return BrokenLine(number, "too_deep")
    return checked(row, number)
