"""Near-duplicate rows: word 3-gram Jaccard similarity, found by MinHash and checked exactly (Broder 1997)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

import numpy as np

PERMUTATIONS, BANDS = 64, 16
_PRIME = (1 << 61) - 1


def shingles(text: str, size: int = 3) -> frozenset[int]:
    """Hashes of all runs of `size` lower-case words; of the whole text where it is shorter."""
    words = text.lower().split()
    count = max(1, len(words) - size + 1)
    return frozenset(crc32(" ".join(words[start : start + size]).encode()) for start in range(count))


def near_duplicates(texts: Sequence[str], threshold: float) -> list[bool]:
    """For each text whether its similarity to an earlier one that was kept reaches the threshold.

    Candidates share one of BANDS bands of their MinHash signature; at a similarity of 0.8 a pair shares one with
    probability 1 - (1 - 0.8^4)^16 = 0.9998. A candidate counts only where its exact similarity reaches the threshold.
    """
    found = [False] * len(texts)
    if threshold >= 1 or not texts:
        return found
    sets = [shingles(text) for text in texts]
    signatures = _signatures(sets)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    rows = PERMUTATIONS // BANDS
    for index, signature in enumerate(signatures):
        keys = [(band, signature[band * rows : (band + 1) * rows].tobytes()) for band in range(BANDS)]
        candidates = {other for key in keys for other in buckets[key]}
        if any(_similarity(sets[index], sets[other]) >= threshold for other in candidates):
            found[index] = True
            continue
        for key in keys:
            buckets[key].append(index)
    return found


def _signatures(sets: Sequence[frozenset[int]]) -> np.ndarray:
    generator = np.random.default_rng(0)  # fixed: the same rows are dropped everywhere
    factors = generator.integers(1, 1 << 31, PERMUTATIONS, dtype=np.uint64)[:, None]
    offsets = generator.integers(0, 1 << 31, PERMUTATIONS, dtype=np.uint64)[:, None]
    signatures = np.empty((len(sets), PERMUTATIONS), dtype=np.uint64)
    for index, members in enumerate(sets):
        values = np.fromiter(members, dtype=np.uint64, count=len(members))
        signatures[index] = ((values[None, :] * factors + offsets) % np.uint64(_PRIME)).min(axis=1)
    return signatures


def _similarity(first: frozenset[int], second: frozenset[int]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)
