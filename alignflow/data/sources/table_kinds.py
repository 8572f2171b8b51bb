"""What the rows of a file are, by their columns: files of one source that hold different things are not read as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alignflow.data.errors import DataError, quoted
from alignflow.data.sources.base import BrokenLine, Row


def refuse_another_kind(
    rows: Iterator[Row | BrokenLine], name: str, told: dict[str, str], where: str
) -> Iterator[Row | BrokenLine]:
    """The rows of the file `name`; raises DataError where its first row that tells a kind differs from that of an earlier file.

    Args:
        rows: The file's rows.
        name: The file's name.
        told: Kind -> the file that was the first of it; shared by the files of a source, and filled here.
        where: The source, for the message.
    """
    known = False
    for row in rows:
        if not known and not isinstance(row, BrokenLine) and (kind := kind_of(row)):
            known = True
            told.setdefault(kind, name)
            if len(told) > 1:
                (first, other), (kind, second) = list(told.items())[:2]
                raise DataError(
                    f"its files differ in kind: {quoted(other)} holds {first}, and {quoted(second)} holds {kind}", where=where,
                    do="name the files one by one, each under the kind that it is for, or name the format that reads all of them",
                )  # fmt: skip
        yield row


def kind_of(row: Row) -> str:
    """What a row is, by the columns that it fills; empty where they do not tell."""
    if _has(row, "chosen", "rejected"):
        return "pairs"
    if any(isinstance(row.get(name), list) for name in ("responses", "answers", "completions", "output")):
        return "several answers"
    if isinstance(row.get("label", row.get("kto_tag")), bool):
        return "labelled answers"
    if any(isinstance(row.get(name), list) for name in ("messages", "conversations")):
        return "conversations"
    if _has(row, "instruction", "output") or _has(row, "prompt", "completion"):
        return "prompts with an answer"
    if _has(row, "prompt") or _has(row, "instruction"):
        return "prompts"
    return "texts" if isinstance(row.get("text"), str) else ""


def _has(row: Row, *names: str) -> bool:
    return all(_filled(row.get(name)) for name in names)


def _filled(value: Any) -> bool:
    return value is not None and value != ""
