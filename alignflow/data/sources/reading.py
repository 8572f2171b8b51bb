"""Reads files of any supported kind as rows, one at a time; what cannot be read is counted, not lost."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import AlignflowError, DataError, cut, quoted
from alignflow.data.sources.arrow import arrow_rows, parquet_rows, with_class_names
from alignflow.data.sources.base import BrokenLine, RawLine, Row
from alignflow.data.sources.delimited import table
from alignflow.data.sources.files import hidden_inside, inside, is_pattern, matched, odd_files, own_suffix, pattern_root
from alignflow.data.sources.json_files import decoded, json_lines, json_value, raw_lines
from alignflow.data.sources.packing import BAD_PACKING, PACKED, not_whole, open_file
from alignflow.data.sources.passages import passages
from alignflow.data.sources.soundness import bounded, checked, without_nulls
from alignflow.data.sources.splits import Chosen, choose_files
from alignflow.data.sources.table_kinds import refuse_another_kind

READERS: Mapping[str, Callable[[IO[bytes], str], Iterator[Row | BrokenLine]]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_value,
    ".csv": table(","),
    ".tsv": table("\t"),
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".txt": passages,
}
KNOWN = f"{', '.join(READERS)}, and {', '.join(PACKED)} of them"


def read_rows(source: SourceConfig) -> Iterator[Row | BrokenLine]:
    """All rows of a source; raises DataError where it is missing, empty, or not what its name says."""
    return (decoded(row) if isinstance(row, RawLine) else row for row in read_lines(source))


def read_lines(source: SourceConfig) -> Iterator[Row | RawLine | BrokenLine]:
    """As `read_rows`, with the lines of one file of JSON lines as they stand there, so that whoever works on a row may decode it."""
    path = Path(source.path)
    try:
        is_dir, is_file, is_there = path.is_dir(), path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read ({error})", where=cut(source.path), do="check the path and its permissions"
        ) from None
    if is_file:
        yield from read_file(path, source.split, raw=True)
    elif is_dir and _is_saved(path):
        yield from _saved(path, source)
    elif is_dir or is_pattern(source.path):
        yield from _files(chosen_files(source), source)
    elif is_there:
        raise DataError(
            "it is neither a file nor a folder", where=source.path, do="name a regular file, or a folder of them"
        )
    else:
        yield from _hub(source)


def chosen_files(source: SourceConfig) -> Chosen:
    """The files of a folder or pattern that are read, and those that are left out; none for a source that is neither.

    Raises:
        DataError: their names do not tell which of them belong to the source's split, or one of them can be no data.
    """
    path = Path(source.path)
    if is_pattern(source.path):
        return choose_files(matched(source.path), source.split, READERS, source.path)
    if not path.is_dir() or _is_saved(path):
        return Chosen((), {})
    odd = next((odd for odd in odd_files(path) if own_suffix(odd, list(READERS))[0] in READERS), None)
    if odd is not None:  # it would be left out in silence
        raise DataError(
            "it is no regular file, or a link to nothing", where=str(odd), do="remove it, or name the files one by one"
        )
    return choose_files(inside(path), source.split, READERS, source.path, hidden_inside(path))


def read_file(path: Path, split: str = "train", *, raw: bool = False) -> Iterator[Any]:
    """All rows of one file, by its suffix; those of one split where the file is JSON that names several.

    Rows are dictionaries or BrokenLine; with `raw` those of a file of JSON lines are RawLine.
    """
    kind, packed = own_suffix(path, list(READERS))
    if kind not in READERS:
        raise DataError(
            f"unknown kind of file {quoted(kind or '(no suffix)')}",
            where=str(path),
            do=f"known: {KNOWN}",
        )
    read = partial(json_value, split=split) if kind == ".json" else READERS[kind]
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=str(path), do="check where it came from")
        with open_file(path, kind, packed) as file:
            # A text of a line is no longer than the line, whose bytes are bounded.
            yield from raw_lines(file, str(path)) if raw and read is json_lines else bounded(read(file, str(path)))
    except BAD_PACKING as error:
        raise not_whole(path, packed, error) from None
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
            f"cannot be read ({cut(' '.join(str(error).split()) or type(error).__name__)})",
            where=str(path),
            do="check the file",
        ) from None


def _is_saved(path: Path) -> bool:
    """Whether a directory was saved by `datasets`."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _saved(path: Path, source: SourceConfig) -> Iterator[Row | BrokenLine]:
    import datasets

    try:
        yield from _split(datasets.load_from_disk(str(path)), source)
    except AlignflowError:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged state.json or table makes datasets raise of all kinds)
        reason = cut(" ".join(f"{type(error).__name__}: {error}".split()))
        raise DataError(
            f"not a data set that datasets can load ({reason})",
            where=str(path),
            do="check the directory, or save it again",
        ) from None


def _files(chosen: Chosen, source: SourceConfig) -> Iterator[Row | BrokenLine]:
    """The rows of several files, one file after the other; files that differ in kind are refused where no format is named."""
    if not chosen.files:
        do = f"known: {KNOWN}; hidden files are not read"
        raise DataError("no data file there", where=source.path, do=do)
    root = pattern_root(source.path) if is_pattern(source.path) else Path(source.path)
    told: dict[str, str] = {}
    for path in chosen.files:
        rows = read_file(path, source.split)
        yield from (
            refuse_another_kind(rows, str(path.relative_to(root)), told, source.path)
            if source.format == "auto"
            else rows
        )


def _hub(source: SourceConfig) -> Iterator[Row | BrokenLine]:
    is_file_name = own_suffix(Path(source.path), list(READERS))[0] in READERS
    if source.path.startswith((".", "/", "~")) or (
        is_file_name and not source.revision
    ):  # nobody waits for the Hub to say so
        raise DataError(
            "no such file",
            where=source.path,
            do="check the path; relative ones start at the recipe's directory. For a Hub data set of this name set its revision",
        )
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, revision=source.revision)
    except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds; all mean that the data cannot be had)
        raise DataError(
            f"neither a local file nor a Hub data set that can be reached ({type(error).__name__})",
            where=source.path,
            do="check the spelling; relative paths start at the recipe's directory",
        ) from None
    yield from _split(loaded, source)


def _split(loaded: Any, source: SourceConfig) -> Iterator[Row | BrokenLine]:
    if hasattr(loaded, "column_names") and isinstance(loaded.column_names, dict):
        if source.split not in loaded:
            raise DataError(f"no split {quoted(source.split)}", where=source.path, do=f"it has {', '.join(loaded)}")
        loaded = loaded[source.split]
    names = {
        name: feature.names
        for name, feature in (loaded.features or {}).items()
        if type(feature).__name__ == "ClassLabel"
    }
    rows = (checked(without_nulls(row), number) for number, row in enumerate(loaded, 1))
    yield from bounded(with_class_names(rows, names))
