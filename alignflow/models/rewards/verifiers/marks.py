"""Where a worked solution shows its answer: `#### 42`, `\\boxed{42}`, `The answer is 42`. All searches take time linear in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

HASHES = "####"
LONGEST, MOST = 1000, 20
"""Characters that a mark can show, and marks from the end that are looked at: a model that repeats itself must not cost more."""
_MARK = re.compile(
    rf"{HASHES}[^\S\n]*|\\f?boxed[^\S\n]*\{{|^[^\S\n]*A:[^\S\n]*"
    r"|\b(?:final |correct )?answer(?:[^\S\n]+is)?[^\S\n]*[:=][^\S\n]*|\banswer[^\S\n]+is[^\S\n]+",
    re.IGNORECASE | re.MULTILINE,
)


def shown_answers(text: str) -> Iterator[tuple[str, str]]:
    """What the marks of a text show, the last first, since a solution may correct itself: (the mark, what it shows).

    A box shows what is in its braces, any other mark the rest of its line. `The answer is \\boxed{42}` is 42.
    """
    for found in reversed(list(_MARK.finditer(text))[-MOST:]):
        mark = found[0].strip()
        shown = _in_braces(text, found.end()) if mark.endswith("{") else _rest_of_line(text, found.end())
        if shown is not None and shown.strip(" \t*_"):
            yield mark, shown


def _rest_of_line(text: str, start: int) -> str:
    """The line from `start` on; the next one with something in it where nothing is left of it, as after a heading `Answer:`."""
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
    """What stands before the brace that closes the one before `start`; None if none does, or only far away."""
    depth = 1
    for index in range(start, min(len(text), start + LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[start:index]
    return None
