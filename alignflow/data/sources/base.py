"""What the formats share: why a row cannot be used, and how its values are checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Row = dict[str, Any]
Messages = list[dict[str, Any]]
"""Turns as `{role, content}`; an assistant's turn that is not to be trained on has `weight` 0 beside them."""

_ROUNDING = 1e-6
"""By how much a probability may be outside of 0 to 1: sums in fp32 are this exact."""
_BLANK = ("", "[]", "{}", "null", "none", "nan")
"""How tables of text write that there is nothing."""


@dataclass(frozen=True)
class BrokenLine:
    """A line that is no row: where it stands (from 1) and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class RawLine:
    """A line of JSON that was not decoded yet, of at most soundness.MOST_BYTES; `number` is where it stands, from 1."""

    number: int
    data: bytes


class RowError(Exception):
    """A row that cannot be used; `reason` is one of a few words that are counted."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class TwoValues(list[Any]):
    """The values of a column that stand in two places of a row and differ; no reader of a single value takes them."""


def column(row: Row, *names: str) -> Any:
    """The first of some columns that the row has; raises RowError for none."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise RowError("missing_column")


def text(value: Any) -> str:
    """A value that must be text with something in it."""
    if not isinstance(value, str):
        raise RowError("not_text")
    if not value.strip():
        raise RowError("empty")
    return value


def number(value: Any) -> float | None:
    """A figure of a row; None where it has none.

    A table of text (CSV) writes numbers as text and an empty cell for a missing one; pandas and Parquet write NaN for that. Parquet has
    decimals, too.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise RowError("not_a_number")
    try:
        found = float(value)
    except OverflowError:
        raise RowError("not_finite") from None
    except ValueError:
        raise RowError("not_a_number") from None
    if math.isinf(found):
        raise RowError("not_finite")
    return None if math.isnan(found) else found


def probability(value: Any) -> float | None:
    """A figure from 0 to 1; None where the row has none. One that is outside by rounding alone is moved to the bound."""
    found = number(value)
    if found is None:
        return None
    clipped = min(1.0, max(0.0, found))
    if abs(found - clipped) > _ROUNDING:
        raise RowError("no_probability")
    return clipped


def is_blank(value: Any) -> bool:
    """Whether a value says nothing: none, false, empty, NaN, or one of these as text."""
    if isinstance(value, str):
        return value.strip().lower() in _BLANK
    return (
        value is None
        or value is False
        or isinstance(value, float)
        and math.isnan(value)
        or isinstance(value, list | dict)
        and not value
    )


def flag(value: Any) -> bool | None:
    """Yes or no; None where the row has neither. A table may write it as 0 or 1, and one of text (CSV) as a word, too."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "yes", "no"):
        return value.strip().lower() in ("true", "yes")
    try:
        found = number(value)
    except RowError:
        raise RowError("not_a_boolean") from None
    if found not in (None, 0.0, 1.0):
        raise RowError("not_a_boolean")
    return None if found is None else bool(found)
