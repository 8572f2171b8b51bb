"""Passages of plain text files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from alignflow.data.sources import soundness
from alignflow.data.sources.base import BrokenLine, Row
from alignflow.data.sources.decoding import as_utf8
from alignflow.data.sources.soundness import checked

_BLANK_LINES = re.compile(rb"\n(?:[ \t\f\v]*\n)+")


def passages(file: IO[bytes], where: str) -> Iterator[Row | BrokenLine]:
    """Passages between `<|endoftext|>` marks, or between blank lines, which may have blanks in them; one that is over the limit is divided at line ends."""
    content = as_utf8(file, where).read()
    found = (
        content.split(b"<|endoftext|>")
        if b"<|endoftext|>" in content
        else _BLANK_LINES.split(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    )
    pieces = (piece for passage in found for piece in _pieces(passage))
    for number, piece in enumerate(pieces, 1):
        try:
            text = piece.decode("utf-8").strip().removeprefix("\ufeff")
        except UnicodeDecodeError:
            yield BrokenLine(number, "not_utf8")
            continue
        if text:
            yield checked({"text": text}, number)


def _pieces(passage: bytes) -> Iterator[bytes]:
    """A passage in pieces of whole lines, each as large as the limit allows; a line that is over the limit is a piece by itself."""
    start = 0
    while len(passage) - start > soundness.MOST_BYTES:
        most = start + soundness.MOST_BYTES
        end = passage.rfind(b"\n", start, most) + 1 or passage.find(b"\n", most) + 1 or len(passage)
        yield passage[start:end]
        start = end
    yield passage[start:]
