"""An answer to another prompt for each answer; with these KTO estimates the policy's KL to the reference (z0)."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import numpy as np

from alignflow.models.batching import EncodedRow

TRIED = 64
"""Most answers to check in the search for one of another prompt."""


def find_mismatched(
    answers: Sequence[EncodedRow], members: np.ndarray, lengths: np.ndarray, tokens: np.ndarray, longest: int
) -> np.ndarray:
    """(answers,) int64: for each the position of the next answer, in a shuffled order, whose prompt differs; -1 if none near it fits.

    The order depends only on the rows. In the order of the data, the next one after either half of a pair would be a chosen one, and
    z0 the KL on good answers.

    Args:
        answers: All answers, all of whose tokens count.
        members: Their positions, group after group.
        lengths: Tokens of each, its prompt included.
        tokens: Tokens of each without its prompt.
        longest: Limit for a prompt with the answer of another one, tokens.
    """
    count = len(answers)
    prompts = [
        hashlib.sha256(array("i", row.prompt_ids)).digest() for row in (answers[place] for place in range(count))
    ]
    own, before = tokens.tolist(), (lengths - tokens).tolist()
    found = np.full(count, -1, np.int64)
    order = np.random.default_rng(0).permutation(members)
    for position, place in enumerate(order):
        for step in range(1, min(TRIED, count)):
            other = int(order[(position + step) % count])
            if prompts[other] != prompts[place] and before[place] + own[other] <= longest:
                found[place] = other
                break
    return found
