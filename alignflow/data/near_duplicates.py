"""Near-duplicate rows: word 3-gram Jaccard similarity, found by MinHash and checked exactly (Broder 1997).

What most rows share, a system prompt or a template, says nothing about whether two of them are the same. So a pair must be similar
with it and without it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from zlib import crc32

import numpy as np

PERMUTATIONS, BANDS = 64, 16
MOST, FEWEST = 0.5, 20
"""Shingles are common in more than MOST of at least FEWEST rows: a smaller share may be one text that is there again and again."""
_PRIME = (1 << 61) - 1
_BUCKETS = 1 << 20


def shingles(text: str, size: int = 3) -> np.ndarray:
    """Hashes of all runs of `size` lower-case words, sorted, each once; of the whole text where it is shorter. uint32."""
    words = text.lower().split()
    count = max(1, len(words) - size + 1)
    hashes = (crc32(" ".join(words[start : start + size]).encode()) for start in range(count))
    return np.unique(np.fromiter(hashes, dtype=np.uint32, count=count))


def near_duplicates(texts: Sequence[str], threshold: float, without_system: Sequence[str] | None = None) -> list[bool]:
    """For each text whether its similarity to an earlier one that was kept reaches the threshold.

    The similarity of two texts is the lower of two: that of all their shingles, and that of their own, which are those of the
    text without its system turn that are not common among all texts. Candidates share one of BANDS bands of the MinHash
    signature of their own shingles; at a similarity of 0.8 a pair shares one with probability 1 - (1 - 0.8^4)^16 = 0.9998.

    Args:
        texts: One per row.
        threshold: From 0 to 1; at 1 nothing is looked for.
        without_system: The same texts without their system turns; None where there are none.
    """
    found = [False] * len(texts)
    if threshold >= 1 or not texts:
        return found
    whole = [shingles(text) for text in texts]
    bare = texts if without_system is None else without_system
    own = _without_common([all_of if text == full else shingles(text) for text, full, all_of in zip(bare, texts, whole, strict=True)])
    signatures = _signatures(own)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    rows = PERMUTATIONS // BANDS
    for index, signature in enumerate(signatures):
        keys = [(band, signature[band * rows : (band + 1) * rows].tobytes()) for band in range(BANDS)]
        candidates = {other for key in keys for other in buckets[key]}
        if any(min(_similarity(sets[index], sets[other]) for sets in (own, whole)) >= threshold for other in candidates):
            found[index] = True
            continue
        for key in keys:
            buckets[key].append(index)
    return found


def _without_common(sets: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sets without the shingles that most of them have; a set of which nothing would be left stays whole."""
    common = _common(sets, int(MOST * len(sets)) + 1) if len(sets) >= FEWEST else np.array([], dtype=np.uint32)
    if not len(common):
        return list(sets)
    nearest = [common[np.minimum(np.searchsorted(common, members), len(common) - 1)] for members in sets]
    left = [members[members != found] for members, found in zip(sets, nearest, strict=True)]
    return [own if len(own) else members for own, members in zip(left, sets, strict=True)]


def _common(sets: Sequence[np.ndarray], least: int) -> np.ndarray:
    """The shingles that at least so many sets have, sorted. Most are ruled out by few counts, so that no table of all is needed."""
    counts = np.zeros(_BUCKETS, dtype=np.int64)
    for members in sets:
        np.add.at(counts, members % _BUCKETS, 1)
    exact: Counter[int] = Counter()
    for members in sets:
        exact.update(members[counts[members % _BUCKETS] >= least].tolist())
    return np.array(sorted(member for member, count in exact.items() if count >= least), dtype=np.uint32)


def _signatures(sets: Sequence[np.ndarray]) -> np.ndarray:
    generator = np.random.default_rng(0)  # fixed: the same rows are dropped everywhere
    factors = generator.integers(1, 1 << 31, PERMUTATIONS, dtype=np.uint64)[:, None]
    offsets = generator.integers(0, 1 << 31, PERMUTATIONS, dtype=np.uint64)[:, None]
    signatures = np.empty((len(sets), PERMUTATIONS), dtype=np.uint64)
    for index, members in enumerate(sets):
        signatures[index] = ((members.astype(np.uint64)[None, :] * factors + offsets) % np.uint64(_PRIME)).min(axis=1)
    return signatures


def _similarity(first: np.ndarray, second: np.ndarray) -> float:
    """The Jaccard similarity of two sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
