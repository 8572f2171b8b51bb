"""Answers of a list that contradict each other: the same tokens with different scores."""

from __future__ import annotations

import numpy as np

from alignflow.data.encoded_rows import EncodedRows


def contradicted(encoded: EncodedRows, usable: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Which answers have the tokens of another one of their list that has another score. A loss would prefer each to itself.

    Args:
        encoded: The answers of a table of rankings, list after list.
        usable: (answers,) bool: the answers to compare.
        score: (answers,): scores as losses read them.

    Returns:
        (answers,) bool. Tokens are read only for answers with the length of another one of their list that has another score.
    """
    found = np.zeros(len(encoded), dtype=bool)
    begins = np.flatnonzero(encoded.values["place"] == 0)
    lengths = encoded.completion_lengths["completion"]
    for first, last in zip(begins, np.append(begins, len(encoded))[1:], strict=True):
        own = np.arange(first, last)[usable[first:last]]
        for length in np.unique(lengths[own]):
            alike = own[lengths[own] == length]
            if len(np.unique(score[alike])) < 2:
                continue
            texts: dict[tuple[int, ...], list[int]] = {}
            for position in alike:
                answer = encoded.answer(int(position), "completion", with_prompt=False)
                texts.setdefault(tuple(answer.completion_ids), []).append(int(position))
            for copies in texts.values():
                found[copies] = len(np.unique(score[copies])) > 1
    return found
