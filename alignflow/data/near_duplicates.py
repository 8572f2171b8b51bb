"""Near-duplicate rows: word 3-gram Jaccard similarity, found by MinHash and checked exactly (Broder 1997).

What most rows share, a system prompt or a template, says nothing about whether two of them are the same. So a pair must be similar
with it and without it. similar_sets.py looks for the pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import numpy as np

from alignflow.data.records import normalise_text
from alignflow.data.similar_sets import Sets, find

PERMUTATIONS, BANDS = 64, 16
MOST, FEWEST = 0.5, 20
"""Shingles are common in more than MOST of at least FEWEST rows: a smaller share may be one text that is there again and again."""
_PRIME = np.uint64((1 << 61) - 1)
_BUCKETS = 1 << 20


def shingles(texts: Iterable[str], size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `size` words of texts in their normal form (records.normalise_text); of the whole text where it is shorter.

    Returns them as `Sets` holds them: flat [shingles] uint32, sorted and each once within a text; counts [texts] int64.
    """
    hashes: list[int] = []
    sizes: list[int] = []
    for text in texts:
        data, words = text.encode(), text.split(" ")
        ends = np.cumsum(
            np.fromiter(
                map(len, words) if text.isascii() else (len(word.encode()) for word in words), np.int64, len(words)
            )
            + 1
        )
        starts, stops = [0, *ends[:-size].tolist()], (ends[size - 1 :] - 1).tolist() or [len(data)]
        hashes += [crc32(data[start:stop]) for start, stop in zip(starts, stops, strict=False)]
        sizes.append(len(stops))
    counts = np.array(sizes, dtype=np.int64)
    keyed = np.sort(
        (np.repeat(np.arange(len(counts), dtype=np.uint64), counts) << np.uint64(32))
        | np.array(hashes, dtype=np.uint64)
    )
    first = np.ones(len(keyed), dtype=bool)
    first[1:] = keyed[1:] != keyed[:-1]
    keyed = keyed[first]
    return keyed.astype(np.uint32), np.bincount((keyed >> np.uint64(32)).astype(np.int64), minlength=len(counts))


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
    if threshold >= 1 or not texts:
        return [False] * len(texts)
    whole = shingles(map(normalise_text, texts))
    own = whole if without_system is None else shingles(map(normalise_text, without_system))
    own = without_common(*own, common_shingles(lambda: iter([own[0]]), len(texts)))
    keys = band_keys(*own)
    found: list[bool] = find(lambda band: keys[band], BANDS, Sets.of(*own), Sets.of(*whole), threshold).tolist()
    return found


def common_shingles(parts: Callable[[], Iterable[np.ndarray]], rows: int) -> np.ndarray:
    """The shingles that more than MOST of `rows` sets have, sorted, uint32; none of fewer than FEWEST sets.

    Most are ruled out by few counts, so that no table of all is needed. `parts` gives the sets' shingles, twice.
    """
    if rows < FEWEST:
        return np.array([], dtype=np.uint32)
    least = int(MOST * rows) + 1
    counts = np.zeros(_BUCKETS, dtype=np.int64)
    for flat in parts():
        counts += np.bincount(flat % _BUCKETS, minlength=_BUCKETS)
    if counts.max() < least:
        return np.array([], dtype=np.uint32)
    exact: Counter[int] = Counter()
    for flat in parts():
        members, found = np.unique(flat[counts[flat % _BUCKETS] >= least], return_counts=True)
        exact.update(dict(zip(members.tolist(), found.tolist(), strict=True)))
    return np.array(sorted(member for member, count in exact.items() if count >= least), dtype=np.uint32)


def without_common(flat: np.ndarray, counts: np.ndarray, common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sets without the shingles that most of them have; a set of which nothing would be left stays whole."""
    if not len(common) or not len(flat):
        return flat, counts
    owner = np.repeat(np.arange(len(counts)), counts)
    own = common[np.minimum(np.searchsorted(common, flat), len(common) - 1)] != flat
    left = np.bincount(owner[own], minlength=len(counts))
    own |= (left == 0)[owner]
    return flat[own], np.where(left == 0, counts, left)


def band_keys(flat: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One number for each band of each set's MinHash signature [BANDS, sets], uint64: equal bands have equal numbers."""
    generator = np.random.default_rng(0)  # fixed: the same rows are dropped everywhere
    factors = generator.integers(1, 1 << 31, PERMUTATIONS, dtype=np.uint64)
    offsets = generator.integers(0, 1 << 31, PERMUTATIONS, dtype=np.uint64)
    keys = np.zeros((BANDS, len(counts)), dtype=np.uint64)
    if not len(counts):
        return keys
    members, starts = flat.astype(np.uint64), np.cumsum(counts) - counts
    hashed, above = np.empty_like(members), np.empty_like(members)
    for number, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
        np.multiply(members, factor, out=hashed)
        hashed += offset
        np.right_shift(hashed, np.uint64(61), out=above)  # the rest of a division by 2^61 - 1, without a division
        hashed &= _PRIME
        hashed += above
        np.subtract(hashed, _PRIME, out=above)  # wraps around to a large number where nothing is to be taken away
        np.minimum(hashed, above, out=hashed)
        band = keys[number * BANDS // PERMUTATIONS]
        band ^= np.minimum.reduceat(hashed, starts)
        band *= np.uint64(0x9E3779B97F4A7C15)
        band ^= band >> np.uint64(29)
    return keys
