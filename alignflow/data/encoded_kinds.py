"""Which answers the rows of a table have, and how they become token ids: one entry for each kind of table that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.batch_rendering import encode_answers, encode_conversations
from alignflow.data.encoded_rows import AnswerIds
from alignflow.data.records import assistant
from alignflow.data.rendering import encode_turn, encode_turns

Row = dict[str, Any]
NO_ANSWER = AnswerIds((), ())


@dataclass(frozen=True)
class EncodedKind:
    """A kind of table whose rows become token ids.

    Attributes:
        name: Its name; a part of the files' names.
        answers: Names of the answers of a row.
        encode: Tokenizer and rows -> for each row its answers, in the order of `answers`.
        values: Columns of numbers and flags that are kept beside the ids.
        expand: A row of the table -> the rows that are encoded for it: a ranking has as many as it has answers.
    """

    name: str
    answers: tuple[str, ...]
    encode: Callable[[Any, Sequence[Row]], list[tuple[AnswerIds, ...]]]
    values: tuple[str, ...] = ()
    expand: Callable[[Row], list[Row]] = lambda row: [row]


def encode_demonstrations(tokenizer: Any, rows: Sequence[Row]) -> list[tuple[AnswerIds, ...]]:
    """Whole conversations, divided before their first supervised token; no ids at all where no token is supervised.

    Raises:
        TemplateRefusedError: the chat template refuses a conversation.
    """
    spoken = [index for index, row in enumerate(rows) if any(turn["role"] == "assistant" for turn in row["messages"])]
    answers = [NO_ANSWER] * len(rows)
    for index, found in zip(
        spoken, encode_conversations(tokenizer, [rows[index]["messages"] for index in spoken]), strict=True
    ):
        found = found or encode_turns(tokenizer, rows[index]["messages"])  # says why the template refuses it
        if any(found.supervised):
            first = found.supervised.index(True)
            answers[index] = AnswerIds(
                tuple(found.ids[:first]), tuple(found.ids[first:]), tuple(found.supervised[first:])
            )
    return [(answer,) for answer in answers]


def encode_preferences(tokenizer: Any, rows: Sequence[Row]) -> list[tuple[AnswerIds, ...]]:
    """Both sides of pairs: what comes before a side's last turn is its prompt; an answer that was cut has no end.

    Raises:
        TemplateRefusedError: the chat template refuses a conversation.
    """
    turns = []
    for row in rows:
        for side in PREFERENCES.answers:
            turns.append(_turn(row["prompt"], row[side], row[f"{side}_ended"]))
    sides = _encoded(tokenizer, turns)
    return list(zip(sides[::2], sides[1::2], strict=True))


def encode_completions(tokenizer: Any, rows: Sequence[Row]) -> list[tuple[AnswerIds, ...]]:
    """One answer of each row: what comes before its last turn is its prompt; an answer that was cut has no end.

    Raises:
        TemplateRefusedError: the chat template refuses a conversation.
    """
    return [
        (answer,)
        for answer in _encoded(tokenizer, [_turn(row["prompt"], row["completion"], row["ended"]) for row in rows])
    ]


def each_completion(row: Row) -> list[Row]:
    """The answers of a ranking as rows of their own; `place` is 0 for the first answer of each ranking."""
    ended = row["ended"] or [None] * len(row["completions"])
    return [
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "completion": assistant(text),
            "ended": flag,
            "score": score,
            "place": place,
        }
        for place, (text, score, flag) in enumerate(zip(row["completions"], row["scores"], ended, strict=True))
    ]


Turn = tuple[list[dict[str, Any]], str, bool]


def _turn(prompt: list[dict[str, Any]], answer: list[dict[str, Any]], ended: bool | None) -> Turn:
    *before, last = answer
    return [*prompt, *before], last["content"], ended is not False


def _encoded(tokenizer: Any, turns: Sequence[Turn]) -> list[AnswerIds]:
    answers = []
    for turn, found in zip(turns, encode_answers(tokenizer, turns), strict=True):
        found = found or encode_turn(tokenizer, turn[0], turn[1], ended=turn[2])  # says why the template refuses it
        answers.append(AnswerIds(tuple(found.prompt_ids), tuple(found.completion_ids)))
    return answers


DEMONSTRATIONS = EncodedKind("demonstrations", ("completion",), encode_demonstrations)
PREFERENCES = EncodedKind(
    "preferences",
    ("chosen", "rejected"),
    encode_preferences,
    ("soft_label", "margin", "chosen_ended", "rejected_ended", "weight"),
)
UNPAIRED = EncodedKind("unpaired", ("completion",), encode_completions, ("label", "ended"))
RANKINGS = EncodedKind("rankings", ("completion",), encode_completions, ("place", "score", "ended"), each_completion)
