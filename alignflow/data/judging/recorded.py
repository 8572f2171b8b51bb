"""Recorded replies of judges: what they said about pairs, read from a file, so that no model is asked."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alignflow.data.errors import DataError
from alignflow.data.judging.gold import GOLD
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.records import row_id
from alignflow.data.sources.base import BrokenLine, Row, RowError, flag, probability
from alignflow.data.sources.votes import share_of

NO_REPLY, NOT_UNDERSTOOD, REPEATED = "no reply", "reply not understood", "second reply on a pair in the same order"
WHO = ("judge", "template")
"""Columns whose values together name a judge; each judge has a report of its own."""
_LETTER = r"(?:output|response|answer|assistant|option|choice)?\s*[\(\[\"'*]*\b([ab12])\b[\)\]\"'*]*"
_VERDICTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\[\[([abc])\]\]",
        rf"^\W*{_LETTER}\W*$",
        r"\b(?:output|response|answer|assistant)\s*[\(\[\"'*]*\b([ab12])\b[\)\]\"'*]*\s+is\s+(?:the\s+)?(?:clearly\s+|much\s+|slightly\s+)?better",
        rf"(?:verdict|winner|better|answer|choice)\W*(?:is|:)\s*{_LETTER}",
    )
)


@dataclass
class Replies:
    """The replies of one judge.

    Attributes:
        outcomes: One for each pair.
        read: Replies that were read.
        parsed: Replies whose verdict was read from their text, since no column says it.
        dropped: Reason -> rows of the file, of whatever judge, that are left out.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    read: int = 0
    parsed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


def recorded_replies(rows: Iterable[Row | BrokenLine], where: str) -> dict[str, Replies]:
    """Judge -> its replies, from rows with a reply each.

    A row names its pair by `index`, `id` or `prompt` (with `subset` where there is one), says by `swapped` whether the answers were shown
    the other way round, and has the verdict as `probability` (that the first answer of the pair is better), as `winner` (of the pair as it is
    stored: a, b, tie or 1, 2, 0), or in the text `completion`, which speaks of the seats as they were shown. `human_preference` is the gold.

    Raises:
        DataError: no row has a reply.
    """
    seen: dict[str, dict[str, dict[bool, Row]]] = defaultdict(lambda: defaultdict(dict))
    problems: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, BrokenLine):
            problems["broken line"] += 1
            continue
        if not any(name in row for name in ("winner", "probability", "completion")):
            problems["no winner, probability or completion"] += 1
            continue
        who = " ".join(str(row[name]) for name in WHO if row.get(name) is not None) or "recorded"
        try:
            pair, swapped = _pair(row), bool(flag(row.get("swapped")))
            probability(row.get("probability"))
        except RowError as error:
            problems[error.reason.replace("_", " ")] += 1
            continue
        problems[REPEATED] += swapped in seen[who][pair]
        seen[who][pair].setdefault(swapped, row)
    problems = +problems  # without the reasons that nothing was left out for
    if not seen:
        reasons = ", ".join(f"{reason} {count}" for reason, count in problems.items()) or "no rows"
        raise DataError(
            f"no recorded reply ({reasons})", where=where, do="give judge, index, swapped, winner, human_preference"
        )
    return {who: replace(_replies(pairs), dropped=dict(problems)) for who, pairs in sorted(seen.items())}


def _pair(row: Row) -> str:
    """The name of the pair that a reply is about; raises RowError for a row that names none."""
    name = next((row[column] for column in ("index", "id", "prompt") if row.get(column) is not None), None)
    if name is None:
        raise RowError("no_index_id_or_prompt")
    return row_id("recorded", row.get("subset"), name)


def _replies(pairs: dict[str, dict[bool, Row]]) -> Replies:
    found = Replies()
    for name, orders in pairs.items():
        read = [_order(orders[swapped], swapped, found) if swapped in orders else None for swapped in (False, True)]
        asked = [one for one in read if one is not None]
        found.read += len(asked)
        known = [order for order, _ in asked if order is not None]
        reason = "" if len(known) == len(asked) else next(why for order, why in asked if order is None)
        gold = next((side for row in orders.values() if (side := _gold(row)) is not None), None)
        found.outcomes.append(
            Outcome(
                name,
                math.fsum(known) / len(known) if not reason else None,
                (_first(read[0]), _first(read[1])),
                reason=reason,
                gold=gold,
                lengths=_lengths(orders),
                families=_families(orders),
            )
        )
    return found


def _order(row: Row, swapped: bool, found: Replies) -> tuple[float | None, str]:
    """P(first answer of the pair is better) in one order, and why there is none."""
    if (told := probability(row.get("probability"))) is not None:
        return told, ""
    if "winner" in row:
        side = side_of(row["winner"])
        reply = row.get("completion")
        return side, "" if side is not None else NO_REPLY if reply is not None and not str(
            reply
        ).strip() else NOT_UNDERSTOOD
    text = str(row.get("completion") or "")
    found.parsed += 1
    seat = verdict_in(text)
    if seat is None:
        return None, NOT_UNDERSTOOD if text.strip() else NO_REPLY
    return (1.0 - seat if swapped else seat), ""


def verdict_in(text: str) -> float | None:
    """1.0 where a reply prefers the answer in the first seat, 0.0 the second, 0.5 neither; None where it does not say, or says both.

    Read are `[[A]]`, a letter or number alone (`Output (a)`), `Output (a) is better`, `Verdict: B`; two scores, `8 | 7`, are compared.
    """
    scores = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*\|\s*(\d+(?:\.\d+)?)\s*", text)
    if scores:
        one, other = float(scores[1]), float(scores[2])
        return 0.5 if one == other else float(one > other)
    for pattern in _VERDICTS:
        found = {match.lower() for match in pattern.findall(text)}
        if len(found) == 1:
            return side_of(found.pop())
        if found:
            return None
    return None


def side_of(value: Any) -> float | None:
    """A verdict in a word or number; None for one that is not understood."""
    try:
        return share_of(value)
    except RowError:
        return None


def _gold(row: Row) -> float | None:
    return next((side_of(row[name]) for name in GOLD if name != "winner" and row.get(name) is not None), None)


def _first(order: tuple[float | None, str] | None) -> float | None:
    return None if order is None else order[0]


def _lengths(orders: dict[bool, Row]) -> tuple[int, int]:
    for row in orders.values():
        if isinstance(row.get("response_a"), str) and isinstance(row.get("response_b"), str):
            return len(row["response_a"]), len(row["response_b"])
    return 0, 0


def _families(orders: dict[bool, Row]) -> tuple[str, str]:
    row = next(iter(orders.values()))
    return str(row.get("model_a") or ""), str(row.get("model_b") or "")
