"""What the rows of a file are, by their columns: files of one source that hold different things are not read as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from alignflow.data.errors import DataError, quoted
from alignflow.data.sources.base import BrokenLine, Row

LOOKED_AT = 20


def refuse_another_kind(
    rows: Iterator[Row | BrokenLine], name: str, told: dict[str, str], where: str
) -> Iterator[Row | BrokenLine]:
    """The rows of the file `name`; raises DataError where the columns of its first rows tell another kind than those of an earlier file.

    Args:
        rows: The file's rows.
        name: The file's name.
        told: Kind -> the file that was the first of it; shared by the files of a source, and filled here.
        where: The source, for the message.
    """
    first = list(islice(rows, LOOKED_AT))
    if kind := kind_of(row for row in first if not isinstance(row, BrokenLine)):
        told.setdefault(kind, name)
    if len(told) > 1:
        (one, other), (another, second) = list(told.items())[:2]
        raise DataError(
            f"its files differ in kind: {quoted(other)} holds {one}, and {quoted(second)} holds {another}",
            where=where,
            do="name the files one by one, each under the kind that it is for, or name the format that reads all of them",
        )
    yield from chain(first, rows)


def kind_of(rows: Iterable[Row]) -> str:
    """What rows are, by the columns that any of them has, filled or not; empty where they do not tell."""
    columns: Row = {}
    for row in rows:
        columns |= {name: value for name, value in row.items() if value is not None or name not in columns}
    names = columns.keys()
    if {"chosen", "rejected"} <= names:
        return "pairs"
    if any(isinstance(columns.get(name), list) for name in ("responses", "answers", "completions", "output")):
        return "several answers"
    if isinstance(columns.get("label", columns.get("kto_tag")), bool):
        return "labelled answers"
    if any(isinstance(columns.get(name), list) for name in ("messages", "conversations")):
        return "conversations"
    if {"instruction", "output"} <= names or {"prompt", "completion"} <= names:
        return "prompts with an answer"
    if {"prompt", "instruction"} & names:
        return "prompts"
    return "texts" if isinstance(columns.get("text"), str) else ""
