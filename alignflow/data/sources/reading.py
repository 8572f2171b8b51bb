"""Reads files of any supported kind as rows, one at a time; what cannot be read is counted, not lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import AlignflowError, DataError, cut, quoted
from alignflow.data.sources.arrow import arrow_rows, parquet_rows
from alignflow.data.sources.base import BrokenLine, Row
from alignflow.data.sources.files import inside, is_hidden, is_pattern, matched
from alignflow.data.sources.soundness import checked

csv.field_size_limit(2**31 - 1)

MOST_BYTES = 16 * 2**20
"""Of one line of JSON, or of one text of a row (characters): no model reads more at once, and what follows takes many times its memory."""
TOO_LARGE = "over_16_MiB"


def read_rows(source: SourceConfig) -> Iterator[Row | BrokenLine]:
    """All rows of a source; raises DataError where it is missing, empty, or not what its name says."""
    path = Path(source.path)
    try:
        is_dir, is_file, is_there = path.is_dir(), path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=cut(source.path), do="check the path and its permissions") from None
    if is_dir:
        yield from _saved(path, source)
    elif is_file:
        yield from read_file(path)
    elif is_there:
        raise DataError("it is neither a file nor a folder", where=source.path, do="name a regular file, or a folder of them")
    elif is_pattern(source.path):
        yield from _files(list(matched(source.path).values()), source.path)
    else:
        yield from _hub(source)


def read_file(path: Path) -> Iterator[Row | BrokenLine]:
    """All rows of one file, by its suffix."""
    kind = _kind(path)
    if kind not in READERS:
        raise DataError(
            f"unknown kind of file {quoted(kind or '(no suffix)')}", where=str(path), do=f"known: {', '.join(READERS)}, and .gz of them"
        )
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=str(path), do="check where it came from")
        with _open(path) as file:
            yield from _bounded(READERS[kind](file, str(path)))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"not a whole gzip file ({error})", where=str(path), do="fetch it again") from None
    except (
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        RecursionError,
        MemoryError,
        pa.ArrowException,
        csv.Error,
    ) as error:
        # Whatever a library meets in a file that is not what its name says: it is the file, and not the row.
        raise DataError(
            f"cannot be read ({cut(' '.join(str(error).split()) or type(error).__name__)})", where=str(path), do="check the file"
        ) from None


def _kind(path: Path) -> str:
    """The suffix that says what a file is; that of what is packed where it ends in .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")


def _json_lines(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    for number, line in enumerate(iter(lambda: _line(file), b""), 1):
        if len(line) > MOST_BYTES:
            yield BrokenLine(number, TOO_LARGE)
            continue
        if not line.strip():
            continue
        if number <= 20:
            _refuse_html(line, where)
        yield _json_row(line, number)


def _line(file: IO[bytes]) -> bytes:
    """The next line, or the start of one that is too large, of which the rest is passed over."""
    line = rest = file.readline(MOST_BYTES + 1)
    while len(line) > MOST_BYTES and rest and not rest.endswith(b"\n"):
        rest = file.readline(MOST_BYTES + 1)
    return line


def _bounded(rows: Iterable[Row | BrokenLine]) -> Iterator[Row | BrokenLine]:
    """The rows, with a broken line in the place of each that has a text over the limit."""
    for number, row in enumerate(rows, 1):
        yield BrokenLine(number, TOO_LARGE) if not isinstance(row, BrokenLine) and _too_large(row) else row


def _too_large(value: Any) -> bool:
    """Whether a row has a text anywhere that is over the limit."""
    if isinstance(value, str | bytes):
        return len(value) > MOST_BYTES
    if isinstance(value, dict | list):
        return any(_too_large(item) for item in (value.values() if isinstance(value, dict) else value))
    return False


def _json_row(line: bytes, number: int) -> Row | BrokenLine:
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_keys_once)
    except UnicodeDecodeError:
        return BrokenLine(number, "not_utf8")
    except _RepeatedKey:
        return BrokenLine(number, "repeated_key")
    except RecursionError:
        return BrokenLine(number, "too_deep")
    except ValueError:
        return BrokenLine(number, "not_json")
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


def _json(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """A JSON array of rows, a mapping with one list of rows, or lines of JSON under the name .json."""
    content = file.read()
    _refuse_html(content.lstrip()[:200], where)
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_keys_once)
    except UnicodeDecodeError:
        yield from _json_lines(io.BytesIO(content), where)
        return
    except (ValueError, RecursionError) as error:
        if content.lstrip()[:1] == b"{" and not isinstance(error, _RepeatedKey):
            yield from _json_lines(io.BytesIO(content), where)
            return
        raise DataError(f"not JSON ({cut(str(error))})", where=where, do="check the file") from None
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 and len(value) <= 3 else [value]
    if not isinstance(value, list):
        raise DataError(
            f"it holds {cut(json.dumps(value))}, and no rows", where=where, do="write a list of rows, or one row in each line of a .jsonl"
        )
    for number, row in enumerate(value, 1):
        yield checked(row, number)


def _refuse_html(start: bytes, where: str) -> None:
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html>") or start.lstrip()[:5].lower() == b"<html":
        raise DataError("this is a web page, not data", where=where, do="download the raw file instead of the page that shows it")


def _table(delimiter: str) -> Callable[[IO[bytes], str], Iterator[Row | BrokenLine]]:
    def read(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
        with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            _check_header(reader.fieldnames or [], where)
            for number, row in enumerate(reader, 2):
                if None in row or any(value is None for value in row.values()):
                    yield BrokenLine(number, "wrong_number_of_columns")
                elif any("\udc80" <= character <= "\udcff" for value in row.values() for character in value):
                    yield BrokenLine(number, "not_utf8")
                else:
                    yield _with_lists(row, number)

    return read


def _check_header(names: Sequence[str], where: str) -> None:
    """Refuse a first line that names no columns, or one column twice: which of the two is meant, nothing says."""
    if any(not name.isprintable() for name in names):
        raise DataError("the first line is not text with the names of columns", where=where, do="check the file")
    if double := next((name for name in names if list(names).count(name) > 1), None):
        raise DataError(f"two columns are called {quoted(double)}", where=where, do="give each column a name of its own")


def _with_lists(row: Mapping[str, str], number: int) -> Row | BrokenLine:
    try:
        return checked({name: _cell(value) for name, value in row.items()}, number)
    except RecursionError:
        return BrokenLine(number, "too_deep")


def _cell(value: str) -> Any:
    """Text, or the list that a cell writes as JSON."""
    if value[:1] == "[" and value[-1:] == "]":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _text(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """Passages between `<|endoftext|>` marks, or between blank lines; one that is over the limit is divided at line ends."""
    content = file.read()
    passages = content.split(b"<|endoftext|>") if b"<|endoftext|>" in content else content.replace(b"\r\n", b"\n").split(b"\n\n")
    pieces = (piece for passage in passages for piece in _pieces(passage))
    for number, piece in enumerate(pieces, 1):
        try:
            text = piece.decode("utf-8").strip()
        except UnicodeDecodeError:
            yield BrokenLine(number, "not_utf8")
            continue
        if text:
            yield checked({"text": text}, number)


def _pieces(passage: bytes) -> Iterator[bytes]:
    """A passage in pieces of whole lines, each as large as the limit allows; a line that is over the limit is a piece by itself."""
    start = 0
    while len(passage) - start > MOST_BYTES:
        end = passage.rfind(b"\n", start, start + MOST_BYTES) + 1 or passage.find(b"\n", start + MOST_BYTES) + 1 or len(passage)
        yield passage[start:end]
        start = end
    yield passage[start:]


READERS: Mapping[str, Callable[[IO[bytes], str], Iterator[Row | BrokenLine]]] = {
    ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".csv": _table(","), ".tsv": _table("\t"),
    ".parquet": parquet_rows, ".arrow": arrow_rows, ".txt": _text,
}  # fmt: skip


def _saved(path: Path, source: SourceConfig) -> Iterator[Row | BrokenLine]:
    """A directory saved by `datasets`, or a directory of data files."""
    if not ((path / "state.json").exists() or (path / "dataset_dict.json").exists()):
        files = [file for file in inside(path).values() if _kind(file) in READERS]
        _refuse_odd_files(path)
        yield from _files([file for file in files if file.suffix.lower() != ".json"] or files, str(path))
        return
    import datasets

    try:
        yield from _split(datasets.load_from_disk(str(path)), source)
    except AlignflowError:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged state.json or table makes datasets raise of all kinds)
        reason = cut(" ".join(f"{type(error).__name__}: {error}".split()))
        raise DataError(
            f"not a data set that datasets can load ({reason})", where=str(path), do="check the directory, or save it again"
        ) from None


def _refuse_odd_files(folder: Path) -> None:
    """Refuse a folder with a pipe, a device or a broken link under the name of a data file: it would be left out in silence."""
    for path in sorted(folder.rglob("*")):
        if _kind(path) in READERS and not is_hidden(path.relative_to(folder)) and not path.is_dir() and not path.is_file():
            raise DataError("it is no regular file, or a link to nothing", where=str(path), do="remove it, or name the files one by one")


def _files(files: list[Path], where: str) -> Iterator[Row | BrokenLine]:
    """The rows of several files, one file after the other."""
    if not files:
        raise DataError("no data file there", where=where, do=f"known: {', '.join(READERS)}, and .gz of them; hidden files are not read")
    for file in files:
        yield from read_file(file)


def _hub(source: SourceConfig) -> Iterator[Row | BrokenLine]:
    if source.path.startswith((".", "/", "~")):
        raise DataError("no such file", where=source.path, do="check the path; relative ones start at the recipe's directory")
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, revision=source.revision)
    except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds; all mean that the data cannot be had)
        raise DataError(
            f"neither a local file nor a Hub data set that can be reached ({type(error).__name__})", where=source.path,
            do="check the spelling; relative paths start at the recipe's directory",
        ) from None  # fmt: skip
    yield from _split(loaded, source)


def _split(loaded: Any, source: SourceConfig) -> Iterator[Row | BrokenLine]:
    if hasattr(loaded, "column_names") and isinstance(loaded.column_names, dict):
        if source.split not in loaded:
            raise DataError(f"no split {quoted(source.split)}", where=source.path, do=f"it has {', '.join(loaded)}")
        loaded = loaded[source.split]
    yield from _bounded(checked(row, number) for number, row in enumerate(loaded, 1))
