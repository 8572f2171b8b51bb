"""Rows in tokens: how long their prompts and they themselves are, as the chat template writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignflow.data.batch_rendering import encode_answers, encode_conversations, encode_prompts
from alignflow.data.row_texts import Row, answer_texts
from alignflow.data.token_counts import count_conversations, count_prompts


@dataclass
class Lengths:
    """Tokens of each row.

    Attributes:
        prompt: Tokens before the first answer [rows], int64.
        total: Tokens of the prompt with its longest answer [rows], int64.
        merged: Whether a token of the template's own encoding reaches across the border before an answer [rows], booleans.
    """

    prompt: np.ndarray
    total: np.ndarray
    merged: np.ndarray

    @classmethod
    def none(cls, rows: int) -> Lengths:
        """Lengths of rows that are not encoded."""
        return cls(np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=bool))


def encoded_lengths(rows: Sequence[Row], which: Sequence[int], tokenizer: Any) -> tuple[Lengths, np.ndarray]:
    """The lengths of some of the rows, and which of these the chat template wrote [rows], booleans. General text has no length:
    it is cut where it is scored, so none is too long."""
    found = Lengths.none(len(rows))
    written = np.zeros(len(rows), dtype=bool)
    written[[index for index in which if "text" in rows[index]]] = True
    _add_conversations(rows, [index for index in which if "messages" in rows[index]], tokenizer, found, written)
    asked = [index for index in which if "prompt" in rows[index]]
    prompts = [rows[index]["prompt"] for index in asked]
    sizes = [None if size is None else size.total for size in count_prompts(tokenizer, prompts)]
    encoded = iter(
        encode_prompts(tokenizer, [prompt for prompt, size in zip(prompts, sizes, strict=True) if size is None])
    )
    for index, size in zip(asked, sizes, strict=True):
        if size is None and (ids := next(encoded)) is not None:
            size = len(ids)
        if size is not None:
            found.prompt[index] = found.total[index] = size
            written[index] = True
    _add_answers(rows, [index for index in asked if written[index]], tokenizer, found, written)
    return found, written


def _add_conversations(
    rows: Sequence[Row], spoken: Sequence[int], tokenizer: Any, found: Lengths, written: np.ndarray
) -> None:
    """The lengths of rows that are whole conversations."""
    rest = []
    for index, sizes in zip(
        spoken, count_conversations(tokenizer, [rows[index]["messages"] for index in spoken]), strict=True
    ):
        if sizes is None or (first := _first_learnt(rows[index]["messages"])) is None:
            rest.append(index)
        else:
            found.prompt[index], found.total[index], written[index] = sizes.starts[first], sizes.total, True
    for index, turns in zip(
        rest, encode_conversations(tokenizer, [rows[index]["messages"] for index in rest]), strict=True
    ):
        if turns is not None:
            found.prompt[index], found.total[index], found.merged[index] = (
                turns.supervised.index(True),
                len(turns.ids),
                turns.merged,
            )
            written[index] = True


def _first_learnt(messages: Sequence[dict[str, Any]]) -> int | None:
    """Which of a conversation's answers is the first to be learnt; None where none is."""
    weights = (message.get("weight") for message in messages if message["role"] == "assistant")
    return next((place for place, weight in enumerate(weights) if weight != 0), None)


def _add_answers(
    rows: Sequence[Row], asked: Sequence[int], tokenizer: Any, found: Lengths, written: np.ndarray
) -> None:
    """Put the longest answer into the lengths of rows with a prompt."""
    answers = [(index, text) for index in asked for text in answer_texts(rows[index])]
    longest: dict[int, int] = {}
    whole = [[*rows[index]["prompt"], {"role": "assistant", "content": text}] for index, text in answers]
    rest = []
    for answer, sizes in zip(answers, count_conversations(tokenizer, whole), strict=True):
        if sizes is None:
            rest.append(answer)
        else:
            longest[answer[0]] = max(longest.get(answer[0], 0), sizes.total)
    for (index, _), turn in zip(
        rest, encode_answers(tokenizer, [(rows[index]["prompt"], text, True) for index, text in rest]), strict=True
    ):
        if turn is None:
            written[index] = False
        else:
            longest[index] = max(longest.get(index, 0), len(turn.prompt_ids) + len(turn.completion_ids))
            found.merged[index] |= turn.merged
    for index, size in longest.items():
        found.total[index] = size
