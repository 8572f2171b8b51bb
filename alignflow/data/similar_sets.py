"""Sets that are similar to an earlier one: candidates share a band of a MinHash signature, and each is checked exactly (Broder 1997).

Sets that share much, as rows of one template do, share bands with very many others, of which few or none are similar. Of these, two are
compared only if they share one of their rarest members, as two similar sets must (prefix filtering: Chaudhuri et al. 2006, Xiao et al. 2008).
Sets of very many rows are held as one array, one set after the other, and the number of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

FEW = 16
"""All sets that share a band are candidates where they are at most so many."""
_TOGETHER = 256
"""Candidates that are compared at once."""
_BLOCK, _MEMBERS, _BUCKETS = 1 << 16, 1 << 21, 1 << 22
"""Sets and members of sets that are read at once, and the most buckets in which members are counted."""
_SAID_EVERY = 1000


@dataclass(frozen=True)
class Sets:
    """Sets of shingles.

    Attributes:
        flat: The shingles of one set after the other, each sorted [shingles], uint32; may be mapped from a file.
        counts: How many of them each set has [sets].
        starts: Where each set begins in `flat` [sets].
    """

    flat: np.ndarray
    counts: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, flat: np.ndarray, counts: np.ndarray) -> Sets:
        """Sets of so many shingles each."""
        counts = np.asarray(counts, dtype=np.int64)
        return cls(flat, counts, np.cumsum(counts) - counts)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self.flat[self.starts[index] : self.starts[index] + self.counts[index]])

    def members(self, rows: np.ndarray) -> np.ndarray:
        """The shingles of some sets, one set after the other."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        return np.asarray(self.flat[np.arange(counts.sum()) + np.repeat(self.starts[rows] - ends + counts, counts)])


class _Kept:
    """Rows that were kept, by the groups that they are in; room for `sizes` rows of each group [groups]."""

    def __init__(self, sizes: np.ndarray):
        self._first = np.cumsum(sizes) - sizes
        self._filled = np.zeros(len(sizes), dtype=np.int64)
        self._rows = np.empty(int(sizes.sum()), dtype=np.int32)

    def add(self, row: int, groups: np.ndarray) -> None:
        self._rows[self._first[groups] + self._filled[groups]] = row
        self._filled[groups] += 1

    def of(self, groups: np.ndarray) -> list[np.ndarray]:
        """The rows of each of some groups that has any."""
        filled, first = self._filled[groups], self._first[groups]
        return [
            self._rows[start : start + count]
            for start, count in zip(first.tolist(), filled.tolist(), strict=True)
            if count
        ]


class _Rarest:
    """Kept rows by the rarest members of their sets.

    Two sets whose similarity reaches a threshold t share at least t |B| and 2t / (1 + t) |A| members, A being the smaller one. In one
    order of all members, the rarest first, one of the first |B| - t |B| + 1 of B is then among the first |A| - 2t / (1 + t) |A| + 1
    of A (both rounded down to whole members). So a row's first members, few or more, are looked up among the more or few of others.

    Args:
        sets: All sets.
        rows: Those that are looked at, sorted.
        threshold: The least similarity.
    """

    def __init__(self, sets: Sets, rows: np.ndarray, threshold: float):
        more, few = (_prefix(sets.counts[rows], share) for share in (threshold, 2 * threshold / (1 + threshold)))
        groups, sizes = _grouped(_rarest_first(sets, rows, more))
        starts = np.cumsum(more) - more
        short = np.arange(len(groups)) - np.repeat(starts, more) < np.repeat(few, more)
        self._rows, self._groups, self._starts, self._few, self._more = rows, groups, starts, few, more
        several = groups >= 0
        self._of_few, self._of_more = (
            _Kept(np.bincount(groups[several & chosen], minlength=len(sizes))) for chosen in (short, ~short)
        )

    def _first(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The groups of a row's first members, few of them and the rest."""
        place = np.searchsorted(self._rows, row)
        start, few = self._starts[place], self._few[place]
        groups = self._groups[start : start + self._more[place]]
        return groups[:few][groups[:few] >= 0], groups[few:][groups[few:] >= 0]

    def add(self, row: int) -> None:
        few, rest = self._first(row)
        self._of_few.add(row, few)
        self._of_more.add(row, rest)

    def of(self, row: int) -> np.ndarray:
        """Kept rows that may be similar to a row, each once."""
        few, rest = self._first(row)
        found = self._of_few.of(few) + self._of_few.of(rest) + self._of_more.of(few)
        return np.unique(np.concatenate(found)) if found else np.array([], dtype=np.int32)


def find(
    keys_of: Callable[[int], np.ndarray],
    bands: int,
    own: Sets,
    whole: Sets,
    threshold: float,
    said: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """For each set whether it is similar to an earlier one that was kept [sets], booleans.

    Only sets that share the number of a band with another are looked at. Memory: 5 bytes for each band of each set, 12 for each band that
    it shares, and, where it shares one with more than FEW others, about 40 for each of its members that are looked up (see `_Rarest`).

    Args:
        keys_of: Band -> its numbers [sets]: those of two sets are equal where the band is.
        bands: How many bands there are.
        own: The sets that the numbers are from.
        whole: Sets that must be similar as well.
        threshold: The least similarity, above 0.
        said: Called now and then with the number of sets that were looked at, and that of all.
    """
    groups, sizes = _groups(keys_of, bands, len(own.counts))
    large = np.append(sizes > FEW, False)  # the last one is that of no group, -1
    kept = _Kept(np.where(large[:-1], 0, sizes))
    rarest = (
        _Rarest(own, np.nonzero(np.logical_or.reduce([large[band] for band in groups]))[0], threshold)
        if large.any()
        else None
    )
    found = np.zeros(len(own.counts), dtype=bool)
    for start in range(0, len(found), _BLOCK):
        for row in (start + np.nonzero((groups[:, start : start + _BLOCK] >= 0).any(axis=0))[0]).tolist():
            if said and row % _SAID_EVERY == 0:
                said(row, len(found))
            mine = groups[:, row]
            few = mine[(mine >= 0) & ~large[mine]]
            others = kept.of(few)
            by_rarest = rarest if large[mine].any() else None
            if by_rarest is not None:
                candidates = by_rarest.of(row)
                others.append(candidates[((groups[:, candidates] == mine[:, None]) & (mine >= 0)[:, None]).any(axis=0)])
            if others and _any_similar(row, np.unique(np.concatenate(others)), own, whole, threshold):
                found[row] = True
                continue
            kept.add(row, few)
            if by_rarest is not None:
                by_rarest.add(row)
    return found


def _groups(keys_of: Callable[[int], np.ndarray], bands: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """For each band of each row the number of its group, -1 where it is alone [bands, rows], int32; and the rows of each group [groups]."""
    groups = np.full((bands, rows), -1, dtype=np.int32)
    sizes: list[np.ndarray] = []
    made = 0
    for band in range(bands):
        groups[band], found = _grouped(keys_of(band), made)
        sizes.append(found)
        made += len(found)
    return groups, np.concatenate(sizes)


def _grouped(keys: np.ndarray, made: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """For each key the number of its group, from `made` on, -1 where no other is equal [keys], int32; and how many keys each has [groups]."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.nonzero(np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, dtype=bool))[0]
    counts = np.diff(np.append(starts, len(keys)))
    several = counts > 1
    groups = np.empty(len(keys), dtype=np.int32)
    groups[order] = np.repeat(np.where(several, made + np.cumsum(several) - 1, -1).astype(np.int32), counts)
    return groups, counts[several]


def _prefix(counts: np.ndarray, share: float) -> np.ndarray:
    """How many first members of each set [sets] hold one of any `share` of its members."""
    least = np.ceil(
        counts * (share * (1 - 1e-12))
    )  # a similarity is a rounded number: one member more rather than less
    kept: np.ndarray = np.minimum(counts - least.astype(np.int64) + 1, counts)
    return kept


def _rarest_first(sets: Sets, rows: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The rarest members, `most` of each [rows], of some sets, the rarest of a set first, one set after the other, uint32.

    How often a member is there is counted together with that of others of its bucket: any order of all members will do.
    """
    buckets = min(_BUCKETS, int(sets.counts[rows].sum()) + 1)
    counts = np.zeros(buckets, dtype=np.int64)
    for start, stop in _parts(sets.counts[rows]):
        counts += np.bincount(sets.members(rows[start:stop]) % buckets, minlength=buckets)
    rank = np.minimum(counts, 0xFFFF).astype(np.uint64)
    found: list[np.ndarray] = []
    for start, stop in _parts(sets.counts[rows]):
        members, sizes = sets.members(rows[start:stop]), sets.counts[rows[start:stop]]
        owner = np.repeat(np.arange(stop - start, dtype=np.uint64), sizes)
        keyed = np.sort((owner << np.uint64(48)) | (rank[members % buckets] << np.uint64(32)) | members)
        place = np.arange(len(members)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found.append(keyed[place < np.repeat(most[start:stop], sizes)].astype(np.uint32))
    return np.concatenate(found)


def _parts(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of at least one set, of at most _BLOCK sets, and of at most _MEMBERS members where it has several."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        most = int(np.searchsorted(ends, ends[start] - counts[start] + _MEMBERS, side="right"))
        stop = min(max(most, start + 1), start + _BLOCK)
        yield start, stop
        start = stop


def _any_similar(row: int, others: np.ndarray, own: Sets, whole: Sets, threshold: float) -> bool:
    """Whether one of some sets is similar to that of `row`, in both kinds of sets. Sizes alone rule most of them out."""
    kinds = (own,) if own.flat is whole.flat else (own, whole)
    for sets in kinds:
        size, sizes = sets.counts[row], sets.counts[others]
        others = others[np.minimum(size, sizes) / np.maximum(size, sizes) >= threshold]
    for start in range(0, len(others), _TOGETHER):
        left = others[start : start + _TOGETHER]
        for sets in kinds:
            left = left[_similarities(row, left, sets) >= threshold] if len(left) else left
        if len(left):
            return True
    return False


def _similarities(row: int, others: np.ndarray, sets: Sets) -> np.ndarray:
    """The Jaccard similarity of the set of `row` to each of some others [others]; no set is empty."""
    mine, members, counts = sets[row], sets.members(others), sets.counts[others]
    equal = mine[np.minimum(np.searchsorted(mine, members), len(mine) - 1)] == members
    shared: np.ndarray = np.add.reduceat(equal, np.cumsum(counts) - counts, dtype=np.int64)
    similarities: np.ndarray = shared / (len(mine) + counts - shared)
    return similarities
