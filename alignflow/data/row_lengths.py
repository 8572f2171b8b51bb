"""Rows in tokens: how long their prompts and they themselves are, as the chat template writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignflow.data.batch_rendering import encode_answers, encode_conversations, encode_prompts
from alignflow.data.row_texts import Row, answer_texts


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
    spoken = [index for index in which if "messages" in rows[index]]
    for index, turns in zip(spoken, encode_conversations(tokenizer, [rows[index]["messages"] for index in spoken]), strict=True):
        if turns is not None:
            found.prompt[index], found.total[index], found.merged[index] = turns.supervised.index(True), len(turns.ids), turns.merged
            written[index] = True
    asked = [index for index in which if "prompt" in rows[index]]
    for index, ids in zip(asked, encode_prompts(tokenizer, [rows[index]["prompt"] for index in asked]), strict=True):
        if ids is not None:
            found.prompt[index] = found.total[index] = len(ids)
            written[index] = True
    _add_answers(rows, [index for index in asked if written[index]], tokenizer, found, written)
    return found, written


def _add_answers(rows: Sequence[Row], asked: Sequence[int], tokenizer: Any, found: Lengths, written: np.ndarray) -> None:
    """Put the longest answer into the lengths of rows with a prompt."""
    answers = [(index, text) for index in asked for text in answer_texts(rows[index])]
    longest: dict[int, int] = {}
    for (index, _), turn in zip(answers, encode_answers(tokenizer, [(rows[index]["prompt"], text, True) for index, text in answers]), strict=True):
        if turn is None:
            written[index] = False
        else:
            longest[index] = max(longest.get(index, 0), len(turn.prompt_ids) + len(turn.completion_ids))
            found.merged[index] |= turn.merged
    for index, size in longest.items():
        found.total[index] = size
