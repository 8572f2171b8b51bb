"""Two answers to a prompt and which one people preferred: a, b or a tie, of one annotator or of several.

Votes become one pair: P(a is better) is the share of the votes for a, a tie counting half to each side. One vote gives a pair without
a soft label; several give the winner's share as its soft label. A share of exactly one half is no pair: `tie` where all votes are ties,
`no_majority` where people disagree. Rows that hold one vote each on the same two answers, in either order, are put together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignflow.data.errors import DataError, cut
from alignflow.data.records import assistant, pair_key
from alignflow.data.sources.alpaca import request
from alignflow.data.sources.base import Messages, Row, RowError, column, is_blank, number, probability
from alignflow.data.sources.columns import renamed
from alignflow.data.sources.conversations import answer_of, answered, preference, prompt_of, prompt_turns
from alignflow.data.sources.labelling import HUMAN, annotator_of, weight_of
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.tool_calls import parsed_json

_STEMS = ("response", "answer", "completion", "output", "conversation")
NAMES = tuple(
    (f"{stem}{mark}{one}", f"{stem}{mark}{other}")
    for stem in _STEMS
    for one, other in (("a", "b"), ("1", "2"), ("0", "1"))
    for mark in ("_", "")
)
"""Names of the columns of the two answers; of `response_0` and `response_1` the verdicts are counted from 0."""
CHOSEN = ("chosen", "rejected")
"""Pairs of TRL's are votes where a column names the annotator."""
VERDICTS = ("human_preference", "preference", "winner", "choice", "preferred", "better_response_id", "label")
LISTS = ("votes", "annotations", "annotators")
_NUMBERED = re.compile(r"annotator_?\d+")
_WORD = re.compile(
    r"[\[( ]*(?:model|response|answer|output|completion|assistant|option)?[ _-]*(a|b|1|2|left|right|first|second)[\]) ]*"
)
_SIDES = {"a": 1.0, "1": 1.0, "left": 1.0, "first": 1.0, "b": 0.0, "2": 0.0, "right": 0.0, "second": 0.0}
_TIES = frozenset(
    {"tie", "tied", "t", "draw", "equal", "same", "both", "neither", "tie (bothbad)", "both_bad", "c", "[[c]]"}
)


@dataclass(frozen=True)
class Vote:
    """What one person said of two answers.

    Attributes:
        share: 1 for a, 0 for b, one half for a tie.
        annotator: Who; None where it is not told.
        weight: What the vote counts; None: 1.
        confidence: How sure the person was, 0 to 1, or None.
    """

    share: float
    annotator: str | None = None
    weight: float | None = None
    confidence: float | None = None


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def is_votes(row: Mapping[str, Any]) -> bool:
    """Whether a row has two answers and a verdict on them."""
    names = _names(row)
    if names == CHOSEN:
        return True
    voted = any(name in row and row[name] is not None for name in (*VERDICTS, *LISTS))
    return names is not None and (voted or any(_NUMBERED.fullmatch(str(name)) for name in row))


def _names(row: Mapping[str, Any]) -> tuple[str, str] | None:
    found = next((pair for pair in NAMES if row.get(pair[0]) is not None and row.get(pair[1]) is not None), None)
    if found is None and all(row.get(name) is not None for name in CHOSEN):
        told = not is_blank(row.get("annotator")) or isinstance(row.get("votes"), list)
        return CHOSEN if told else None
    return found


def two_answers(row: Row) -> tuple[Messages, str, str]:
    """Prompt, answer a and answer b; raises RowError."""
    names = _names(row)
    if names is None:
        raise RowError("missing_column")
    if "instruction" in row:
        prompt: Messages | None = request(row)
    else:
        asked = [name for name in ("prompt", "question") if row.get(name) is not None]
        prompt = prompt_turns(row, column(row, *asked)) if asked else None
    whole = [answered(row, prompt, column(row, name)) for name in names]
    if prompt_of(whole[0]) != prompt_of(whole[1]):
        raise RowError("different_prompts")
    return prompt_of(whole[0]), answer_of(whole[0]), answer_of(whole[1])


def votes_of(row: Row) -> list[Vote]:
    """The votes of a row, of which there is at least one; raises RowError (`no_verdict`, `unknown_verdict`).

    A list of votes goes before a single verdict beside it, which then is what somebody made of the list.
    """
    names = _names(row)
    from_zero = names is not None and names[0].endswith("0")
    for name in LISTS:
        if not is_blank(row.get(name)):
            value = row[name]
            listed = parsed_json(value, "unknown_verdict") if isinstance(value, str) else value
            if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
                raise RowError("unknown_verdict")
            return [_vote(vote, from_zero) for vote in listed]
    numbered = [name for name in row if _NUMBERED.fullmatch(str(name))]
    if numbered:
        given = {name: row.get(name) for name in sorted(numbered, key=lambda name: (len(name), name))}
        cast = [Vote(share_of(value, from_zero), name) for name, value in given.items() if not _is_missing(value)]
        if cast:
            return cast
    if names == CHOSEN:
        return [Vote(1.0, annotator_of(row), *_figures(row))]
    for name in VERDICTS:
        if not _is_missing(row.get(name)):
            return [Vote(share_of(row[name], from_zero), annotator_of(row), *_figures(row))]
    raise RowError("no_verdict")


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or isinstance(value, float) and value != value


def _figures(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return weight_of(row.get("weight")), probability(row.get("confidence"))


def _vote(value: Any, from_zero: bool) -> Vote:
    if not isinstance(value, Mapping):
        return Vote(share_of(value, from_zero))
    given = next((value[name] for name in VERDICTS if not _is_missing(value.get(name))), None)
    return Vote(share_of(given, from_zero), annotator_of(dict(value)), *_figures(value))


def share_of(value: Any, from_zero: bool = False) -> float:
    """A verdict as the share of a: 1, 0, or one half for a tie.

    Words are a, b, tie, model_a, response_1, left and the like. Numbers are 1 for the first, 2 for the second, and 0 or 1.5 for a tie;
    where answers are counted from 0, they are 0 and 1.

    Raises:
        RowError: `unknown_verdict`.
    """
    if isinstance(value, bool):
        raise RowError("unknown_verdict")
    if isinstance(value, str):
        word = " ".join(value.lower().split())
        if word in _TIES:
            return 0.5
        if not word.isdecimal() and (found := _WORD.fullmatch(word)):
            return _SIDES[found.group(1)]
    try:
        figure = number(value)
    except RowError:
        raise RowError("unknown_verdict") from None
    shares = {0.0: 1.0, 1.0: 0.0} if from_zero else {1.0: 1.0, 2.0: 0.0, 0.0: 0.5, 1.5: 0.5}
    if figure not in shares:
        raise RowError("unknown_verdict")
    return shares[figure]


def numbers_of(row: Mapping[str, Any], names: Sequence[str] = VERDICTS) -> set[str]:
    """The verdicts of a row that are written as whole numbers; 0 and 1 are left out where its answers are counted from 0, which says what 0
    means.

    Args:
        row: A raw row under its standard names.
        names: Columns of a single verdict, the first that has a value counts.
    """
    pair = _names(row)
    known = ("0", "1") if pair is not None and pair[0].endswith("0") else ()
    numbered = [row[name] for name in row if _NUMBERED.fullmatch(str(name)) and not _is_missing(row[name])]
    single = next(([row[name]] for name in names if not _is_missing(row.get(name))), [])
    words = {
        str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
        for value in numbered or single
    }
    return {word for word in words if word.removeprefix("-").isdecimal() and word not in known}


def refuse_zero_and_one(numbers: Collection[str], where: str) -> None:
    """Raise DataError where all verdicts of a source are 0 and 1: the readings differ, and the wrong one turns labels round in silence."""
    if set(numbers) == {"0", "1"}:
        raise DataError(
            "the labels are 0 and 1: they may say first and second, tie and first, or second and first",
            where=where,
            do="write a, b and tie in their place, or 1 for the first answer, 2 for the second and 0 for a tie; "
            "columns response_0 and response_1 are counted from 0",
        )


def refuse_scale(numbers: Collection[str], where: str) -> None:
    """Raise DataError where the verdicts of a source are a scale (-2 to 2, 1 to 7): a 2 of it does not say that the second answer is better.

    A lone -1 beside 1 and 2 is how tables write that there is no verdict.
    """
    odd = set(numbers) - {"0", "1", "2"}
    if odd - {"-1"} or (odd and "2" not in numbers):
        raise DataError(
            f"the labels are a scale ({cut(', '.join(sorted(numbers, key=int)))}), which may have the first or the second answer at its upper end",
            where=where,
            do="write a, b and tie in their place, with the strength as `margin` or `confidence`",
        )


def share(votes: Sequence[Vote]) -> float:
    """P(a is better) by the weighted counts of the votes."""
    weights = [1.0 if vote.weight is None else vote.weight for vote in votes]
    return sum(weight * vote.share for weight, vote in zip(weights, votes, strict=True)) / sum(weights)


def _preference(row: Row) -> list[Row]:
    (prompt, first, second), votes = two_answers(row), votes_of(row)
    found = share(votes)
    if abs(found - 0.5) < 1e-9:
        raise RowError("tie" if all(vote.share == 0.5 for vote in votes) else "no_majority")
    better, worse = (first, second) if found > 0.5 else (second, first)
    figures = {} if len(votes) == 1 else {"soft_label": max(found, 1.0 - found)}
    pair = preference([*prompt, *assistant(better)], [*prompt, *assistant(worse)], **figures)
    return [{**pair, **_labelled(votes)}]


def _labelled(votes: Sequence[Vote]) -> Row:
    """Who voted; the mean weight where votes have one; the confidence of a single vote."""
    only = votes[0] if len(votes) == 1 else None
    weights = [1.0 if vote.weight is None else vote.weight for vote in votes]
    return {
        "judge": HUMAN if only is None or only.annotator is None else f"{HUMAN}:{only.annotator}",
        "weight": None if all(vote.weight is None for vote in votes) else sum(weights) / len(weights),
        "confidence": None if only is None else only.confidence,
    }


def _completions(row: Row) -> list[Row]:
    prompt, first, second = two_answers(row)
    return [{"prompt": prompt, "completions": [first, second], "ended": [True, True]}]


def item_of(row: Row) -> tuple[str, bool]:
    """A name for the prompt and its two answers, the same in either order; and whether they stand in the other order."""
    return pair_key(*two_answers(row))


def gathered(rows: list[tuple[int, Row]], columns: Mapping[str, str]) -> list[tuple[int, Row]]:
    """Numbered raw rows with the votes on the same two answers in one row, where the first of them stood.

    Of one person's votes the last one counts. A row that cannot be read stays as it is, for the parser to say why.
    """
    places: dict[str, int] = {}
    found: list[tuple[int, Row]] = []
    votes: dict[int, tuple[bool, list[Vote]]] = {}
    for at, row in rows:
        try:
            read = renamed(row, columns)
            (item, swapped), own = item_of(read), votes_of(read)
        except (RowError, KeyError, TypeError, AttributeError, ValueError):
            found.append((at, row))
            continue
        place = places.setdefault(item, len(found))
        if place == len(found):
            found.append((at, row))
            votes[place] = swapped, own
        else:
            first, known = votes[place]
            turned = [vote if swapped == first else replace(vote, share=1.0 - vote.share) for vote in own]
            votes[place] = first, [*known, *turned]
    return [
        (at, _with_votes(row, votes[place][1], columns) if place in votes else row)
        for place, (at, row) in enumerate(found)
    ]


def _with_votes(row: Row, votes: Sequence[Vote], columns: Mapping[str, str]) -> Row:
    last = {vote.annotator or f"\n{number}": vote for number, vote in enumerate(votes)}
    if len(votes) == 1 or "votes" in columns:
        return row
    words = {1.0: "a", 0.0: "b", 0.5: "tie"}
    names = ("annotator", "weight", "confidence")
    told = [
        {
            "preference": words[vote.share],
            **{name: value for name in names if (value := getattr(vote, name)) is not None},
        }
        for vote in last.values()
    ]
    return {**{name: value for name, value in row.items() if name not in names}, "votes": told}


PARSERS = {
    "preferences": _preference,
    "completions": _completions,
    "prompts": lambda row: [prompt_row(two_answers(row)[0], row)],
}
