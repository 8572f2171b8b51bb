"""Whether a row says that its answer is a good one: `label`, `kto_tag` or `desirable`, as a boolean, 0 or 1, -1 or 1, or a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alignflow.data.sources.base import Row, RowError, flag, is_blank

COLUMNS = ("label", "kto_tag", "desirable", "is_desirable")
_GOOD = frozenset(
    {
        "true",
        "yes",
        "t",
        "y",
        "good",
        "positive",
        "pos",
        "correct",
        "right",
        "desirable",
        "desired",
        "accepted",
        "accept",
        "like",
        "liked",
        "upvote",
        "chosen",
        "preferred",
        "👍",
        "✅",
        "✓",
        "✔",
        "+1",
    }
)
_BAD = frozenset(
    {
        "false",
        "no",
        "f",
        "n",
        "bad",
        "negative",
        "neg",
        "incorrect",
        "wrong",
        "undesirable",
        "undesired",
        "rejected",
        "reject",
        "dislike",
        "disliked",
        "downvote",
        "dispreferred",
        "👎",
        "❌",
        "✗",
        "✘",
    }
)
_TONES = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
"""Tones of skin, and the mark of a coloured picture: a thumb of any colour is a thumb."""
_WORDS = {**dict.fromkeys(_GOOD, True), **dict.fromkeys(_BAD, False), "thumbs up": True, "thumbs down": False}


def label_or_none(row: Mapping[str, Any]) -> bool | None:
    """The label of a row or turn; None where it has none.

    Raises:
        RowError: `unknown_label`: it is no label that is known here, or two columns disagree.
    """
    if row.keys().isdisjoint(COLUMNS):
        return None
    found = {_label(row[name]) for name in COLUMNS if name in row and not _is_missing(row[name])}
    if len(found) > 1:
        raise RowError("unknown_label")
    return found.pop() if found else None


def label(row: Row) -> bool:
    """The row's label; raises RowError (`no_label`) where it has none that is known."""
    try:
        found = label_or_none(row)
    except RowError:
        found = None
    if found is None:
        raise RowError("no_label")
    return found


def _is_missing(value: Any) -> bool:
    return value is not False and is_blank(value)


def _label(value: Any) -> bool:
    if isinstance(value, str):
        word = " ".join(re.split(r"[\s_-]+", _TONES.sub("", value).strip().lower()))
        if word in _WORDS:
            return _WORDS[word]
    if value in (-1, "-1", "-1.0"):
        return False
    try:
        found = flag(value)
    except RowError:
        found = None
    if found is None:
        raise RowError("unknown_label")
    return found
