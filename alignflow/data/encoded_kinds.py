"""Which answers the rows of a table have, and how they become token ids: one entry for each kind of table that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.batch_rendering import encode_answers, encode_conversations
from alignflow.data.encoded_rows import AnswerIds
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
    """

    name: str
    answers: tuple[str, ...]
    encode: Callable[[Any, Sequence[Row]], list[tuple[AnswerIds, ...]]]
    values: tuple[str, ...] = ()


def encode_demonstrations(tokenizer: Any, rows: Sequence[Row]) -> list[tuple[AnswerIds, ...]]:
    """Whole conversations, divided before their first supervised token; no ids at all where no token is supervised.

    Raises:
        TemplateRefusedError: the chat template refuses a conversation.
    """
    spoken = [index for index, row in enumerate(rows) if any(turn["role"] == "assistant" for turn in row["messages"])]
    answers = [NO_ANSWER] * len(rows)
    for index, found in zip(spoken, encode_conversations(tokenizer, [rows[index]["messages"] for index in spoken]), strict=True):
        found = found or encode_turns(tokenizer, rows[index]["messages"])  # says why the template refuses it
        if any(found.supervised):
            first = found.supervised.index(True)
            answers[index] = AnswerIds(tuple(found.ids[:first]), tuple(found.ids[first:]), tuple(found.supervised[first:]))
    return [(answer,) for answer in answers]


def encode_preferences(tokenizer: Any, rows: Sequence[Row]) -> list[tuple[AnswerIds, ...]]:
    """Both sides of pairs: what comes before a side's last turn is its prompt; an answer that was cut has no end.

    Raises:
        TemplateRefusedError: the chat template refuses a conversation.
    """
    turns = []
    for row in rows:
        for side in PREFERENCES.answers:
            *before, last = row[side]
            turns.append(([*row["prompt"], *before], last["content"], row[f"{side}_ended"] is not False))
    sides = []
    for turn, found in zip(turns, encode_answers(tokenizer, turns), strict=True):
        found = found or encode_turn(tokenizer, turn[0], turn[1], ended=turn[2])  # says why the template refuses it
        sides.append(AnswerIds(tuple(found.prompt_ids), tuple(found.completion_ids)))
    return list(zip(sides[::2], sides[1::2], strict=True))


DEMONSTRATIONS = EncodedKind("demonstrations", ("completion",), encode_demonstrations)
PREFERENCES = EncodedKind("preferences", ("chosen", "rejected"), encode_preferences, ("soft_label", "margin", "chosen_ended", "rejected_ended"))
