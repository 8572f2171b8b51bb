"""Rows of JSON files: one in each line, or all in one value."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator
from typing import IO, Any

from alignflow.data.errors import DataError, cut, quoted
from alignflow.data.sources import soundness
from alignflow.data.sources.base import BrokenLine, RawLine, Row
from alignflow.data.sources.decoding import BOM, as_utf8
from alignflow.data.sources.soundness import TOO_LARGE, bounded, checked
from alignflow.data.sources.splits import same_split, split_of

_OF_A_ROW = frozenset(
    {
        "messages",
        "conversations",
        "conversation",
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "completions",
        "instruction",
        "instructions",
        "input",
        "output",
        "question",
        "answer",
        "answers",
        "query",
        "response",
        "responses",
        "text",
        "message_id",
        "message_tree_id",
        "scores",
        "ranks",
    }
)
"""Columns of data: an object that has one of them beside others is a row, and its lists are fields."""
_OF_A_TURN = frozenset({"role", "from"})
_SEEN = 4096
"""Bytes at the start of a file that show whether it has a row in each line."""
_BLANKS = re.compile(r"\s*")


def json_lines(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """One row in each line; a line that is none is broken, with its number."""
    return (decoded(line) if isinstance(line, RawLine) else line for line in raw_lines(file, where))


def raw_lines(file: IO[bytes], where: str) -> Iterator[Row | RawLine | BrokenLine]:
    """The lines with something in them, not decoded; one that is too large is broken.

    A file that is one list of rows, or has its rows over several lines each, is read as that, and its rows are decoded.
    """
    opened = as_utf8(file, where)
    start = opened.peek(_SEEN)[:_SEEN].lstrip()
    if _is_over_lines(start):
        content = opened.read()
        if values := _values(content):
            yield from bounded(checked(row, number) for number, row in enumerate(values, 1))
            return
        opened = io.BufferedReader(io.BytesIO(content))
    for number, line in enumerate(iter(lambda: _line(opened), b""), 1):
        if len(line) > soundness.MOST_BYTES:
            yield BrokenLine(number, TOO_LARGE)
            continue
        line = line.removeprefix(BOM)  # files with a mark that were put together have it in the middle
        if not line.strip():
            continue
        if number <= 20:
            _refuse_html(line, where)
        yield RawLine(number, line)


def _is_over_lines(start: bytes) -> bool:
    """Whether a file begins like one list, or like an object that does not end on its first line."""
    first = start.split(b"\n", 1)[0].rstrip()
    return first[:1] == b"[" or first[:1] == b"{" and first[-1:] in (b"{", b"[", b",")


def _values(content: bytes) -> list[Any]:
    """The rows of a list, or those that follow each other over several lines as `jq` writes them; none where it is neither, or a list of turns."""
    found: list[Any] = []
    try:
        text, place = content.decode("utf-8").strip(), 0
        while place < len(text):
            value, place = _DECODER.raw_decode(text, place)
            found.append(value)
            place = _BLANKS.match(text, place).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return []
    if len(found) == 1 and isinstance(found[0], list):
        rows = [row for row in found[0] if isinstance(row, dict)]
        return [] if not rows or any({"role", "content"} <= row.keys() for row in rows) else found[0]
    return found if all(isinstance(row, dict) for row in found) else []


def _line(file: IO[bytes]) -> bytes:
    """The next line, or the start of one that is too large, of which the rest is passed over."""
    line = rest = file.readline(soundness.MOST_BYTES + 1)
    while len(line) > soundness.MOST_BYTES and rest and not rest.endswith(b"\n"):
        rest = file.readline(soundness.MOST_BYTES + 1)
    return line


def decoded(line: RawLine) -> Row | BrokenLine:
    """The row that a line is, checked as `soundness.checked` does; or a broken line."""
    data, number = line.data, line.number
    try:
        row = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return BrokenLine(number, "not_utf8")
    except _RepeatedKey:
        return BrokenLine(number, "repeated_key")
    except RecursionError:
        return BrokenLine(number, "too_deep")
    except ValueError:
        return BrokenLine(number, "not_json")
    if isinstance(row, dict) and b"\\u" not in data and data.count(b"[") + data.count(b"{") <= soundness.MAX_DEPTH:
        return row  # decoded UTF-8 has a lone surrogate only where one is written as \\u, and no value is deeper than its brackets
    return checked(row, number)


class _RepeatedKey(ValueError):
    """A key is twice in an object, and nothing says which value is meant."""


def _keys_once(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKey(
            f"the key {quoted(next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1))} is there twice"
        )
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_keys_once)
"""One for all lines: json.loads makes one for each."""


def json_value(file: IO[bytes], where: str, split: str = "train") -> Iterator[Row | BrokenLine]:
    """A list of rows, an object with one under any key, one row, or lines of JSON under the name .json.

    Of an object with several lists the one that `split` names is read.

    Raises:
        DataError: it is no JSON, no rows, or has several lists of rows and none of them is the split.
    """
    content = as_utf8(file, where).read()
    _refuse_html(content.lstrip()[:200], where)
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_keys_once)
    except UnicodeDecodeError:
        yield from json_lines(io.BytesIO(content), where)
        return
    except (ValueError, RecursionError) as error:
        if content.lstrip()[:1] == b"{" and not isinstance(error, _RepeatedKey):
            yield from json_lines(io.BytesIO(content), where)
            return
        raise DataError(f"not JSON ({cut(str(error))})", where=where, do="check the file") from None
    rows = _rows_of(value, split, where) if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise DataError(
            f"it holds {cut(json.dumps(value))}, and no rows",
            where=where,
            do="write a list of rows, or one row in each line of a .jsonl",
        )
    for number, row in enumerate(rows, 1):
        yield checked(row, number)


def _rows_of(value: Row, split: str, where: str) -> list[Any]:
    """The rows of an object: those of its list, or the object itself."""
    _refuse_columns(value, where)
    lists = {name: item for name, item in value.items() if isinstance(item, list)}
    rows = {name: item for name, item in lists.items() if item and all(_is_row(row) for row in item)}
    known = _OF_A_ROW & value.keys() - (rows if len(rows) == 1 else {}).keys()
    if known and (
        sure := [name for name in rows if name not in _OF_A_ROW and any(_OF_A_ROW & row.keys() for row in rows[name])]
    ):
        raise DataError(
            f"it can be one row, which has {quoted(min(known))}, or the rows under {quoted(sure[0])}",
            where=where,
            do="write a list of rows, or one row in each line of a .jsonl",
        )
    if not lists or known:
        return [value]
    if named := [name for name, item in lists.items() if split_of(name) and (name in rows or not item or not rows)]:
        return lists[_of_split(named, rows, split, where)]
    if not rows:
        return next(iter(lists.values())) if len(lists) == 1 else [value]
    if len(rows) == 1:
        return next(iter(rows.values()))
    listed = ", ".join(f"{quoted(name)} ({len(item)})" for name, item in rows.items())
    if split not in rows:
        raise DataError(
            f"it has several lists of rows, and none is the split {quoted(split)}: {cut(listed)}",
            where=where,
            do="name one of them as the source's split, or write each list to a file of its own",
        )
    return rows[split]


def _of_split(named: list[str], rows: Collection[str], split: str, where: str) -> str:
    """Which of the lists that are named as splits is the wanted one; one alone is, as with files, where no other split was asked for.

    Args:
        named: Names of lists that tell a split; a list may be empty.
        rows: Names of lists with rows in them.
        split: The source's split.
        where: The file, for the message.
    """
    wanted = [name for name in named if name == split] or [name for name in named if same_split(split_of(name), split)]
    if not wanted and split == "train" and len(named) == 1 and set(rows) <= set(named):
        wanted = named
    if len(wanted) != 1:
        raise DataError(
            f"{'several lists' if wanted else 'no list'} of the split {quoted(split)}",
            where=where,
            do=f"set the source's split; there are: {cut(', '.join(named))}",
        )
    return wanted[0]


def _is_row(value: Any) -> bool:
    """Whether an item of a list is a row by itself, and not a turn of a conversation."""
    return isinstance(value, dict) and not _OF_A_TURN & value.keys()


def _refuse_columns(value: Row, where: str) -> None:
    """Refuse a table that was written column by column: read as one row, each of its columns would be one value."""
    columns = [item for item in value.values() if isinstance(item, list | dict)]
    sizes = {len(item) for item in columns}
    listed = all(isinstance(item, list) and not any(isinstance(cell, dict | list) for cell in item) for item in columns)
    indexed = all(
        isinstance(item, dict) and list(item) == [str(index) for index in range(len(item))] for item in columns
    )
    if (
        len(columns) == len(value) > 1
        and len(sizes) == 1
        and 0 not in sizes
        and (listed or indexed)
        and _OF_A_ROW & value.keys()
    ):
        raise DataError(
            f"it holds columns ({cut(', '.join(value))}), and no rows",
            where=where,
            do="write a list of rows: pandas does with orient='records'",
        )


def _refuse_html(start: bytes, where: str) -> None:
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html>") or start.lstrip()[:5].lower() == b"<html":
        raise DataError(
            "this is a web page, not data", where=where, do="download the raw file instead of the page that shows it"
        )
