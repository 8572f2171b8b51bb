"""Finds the answer in a worked solution: `#### 42`, `\\boxed{42}`, `The answer is 42`. All searches take linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

HASHES = "####"
LONGEST, MOST = 1000, 20
"""Most characters of an answer at a mark, and most marks from the end that are read, since a model may repeat itself."""
_MARK = re.compile(
    rf"{HASHES}[^\S\n]*|\\f?boxed[^\S\n]*\{{|^[^\S\n]*A:[^\S\n]*"
    r"|\b(?:final |correct )?answer(?:[^\S\n]+is)?[^\S\n]*[:=][^\S\n]*|\banswer[^\S\n]+is[^\S\n]+",
    re.IGNORECASE | re.MULTILINE,
)


def shown_answers(text: str) -> Iterator[tuple[str, str]]:
    """The marks of a text with their answers, the last first, since a solution may correct itself: (mark, answer).

    The answer of a box is in its braces, that of any other mark is the rest of its line. `The answer is \\boxed{42}` is 42.
    """
    for found in reversed(list(_MARK.finditer(text))[-MOST:]):
        mark = found[0].strip()
        shown = _in_braces(text, found.end()) if mark.endswith("{") else _rest_of_line(text, found.end())
        if shown is not None and shown.strip(" \t*_"):
            yield mark, shown


def _rest_of_line(text: str, start: int) -> str:
    """The line from `start` on; if the rest of it is empty, as after a heading `Answer:`, the next line that is not."""
    line = text[start : _end_of_line(text, start)]
    if line.strip(" \t*_"):
        return line
    while start < len(text) and text[start] in " \t*_\n":
        start += 1
    return text[start : _end_of_line(text, start)]


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return min(len(text) if end < 0 else end, start + LONGEST)


def _in_braces(text: str, start: int) -> str | None:
    """The text up to the brace that closes the one before `start`; None if there is none, or only far away."""
    depth = 1
    for index in range(start, min(len(text), start + LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[start:index]
    return None
