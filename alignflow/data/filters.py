"""Drops rows that should not be used, each counted under one reason, by what was measured of each (measuring.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from alignflow.data import near_duplicates
from alignflow.data.measuring import FATES, HITS, KEYS, OWN, WHOLE, Measured
from alignflow.data.near_duplicates import BANDS, FEWEST, MOST
from alignflow.data.parsing import Kept
from alignflow.data.row_texts import row_text
from alignflow.data.row_workers import Workers
from alignflow.data.similar_sets import Sets, find
from alignflow.data.spool import Spool, SpooledRows


class Table:
    """The measured rows of a table, of which fewer and fewer are left.

    Attributes:
        chunks: The rows.
        kept: What is counted; its rows are those that are left.
        left: Which rows are [rows], booleans.
    """

    def __init__(self, chunks: Sequence[Measured], kept: Kept):
        self.chunks, self.kept = chunks, kept
        self._borders = np.cumsum([len(chunk.fate) for chunk in chunks])[:-1]
        self.left = np.ones(sum(len(chunk.fate) for chunk in chunks), dtype=bool)
        kept.rows = self.rows(self.left)

    def column(self, get: Callable[[Measured], np.ndarray]) -> np.ndarray:
        """One array of all chunks, put together."""
        return np.concatenate([get(chunk) for chunk in self.chunks]) if self.chunks else np.zeros(0)

    def parts(self, mask: np.ndarray) -> list[np.ndarray]:
        """A mask of all rows, as one for each chunk."""
        return np.split(mask, self._borders) if self.chunks else []

    def rows(self, mask: np.ndarray) -> SpooledRows:
        """Some of the rows, in their order."""
        return SpooledRows([(chunk.path, part) for chunk, part in zip(self.chunks, self.parts(mask), strict=True)])

    def drop(self, reason: str, bad: np.ndarray) -> None:
        """Drop those of the rows that are left which `bad` [rows] names, and count them, with the first as the example."""
        bad = bad & self.left
        number = int(bad.sum())
        if number:
            self.kept.count(reason, "" if reason in self.kept.examples else row_text(self.rows(bad).row(0)), number)
            self.left &= ~bad
            self.kept.rows = self.rows(self.left)

    def drop_unfit(self) -> None:
        """Drop what is over-long by its bytes alone, and what the chat template does not take."""
        fate = self.column(lambda chunk: chunk.fate)
        for place, reason in enumerate(FATES[1:], 1):
            self.drop(reason, fate == place)

    def drop_duplicates(self) -> None:
        """Drop rows that are equal, in normalised text, to an earlier one.

        Where rows of one text differ in their label, their order of answers, or in which turns are trained on, all of them are dropped: none tells which is right.
        """
        places = np.nonzero(self.left)[0]
        bad = contradictory(
            self.column(lambda chunk: chunk.text)[places], self.column(lambda chunk: chunk.meant)[places]
        )
        of_weights = bool(self.column(lambda chunk: chunk.weighted).any())
        self.drop("contradictory_weights" if of_weights else "contradictory_labels", _at(places[bad], len(self.left)))
        places = np.nonzero(self.left)[0]
        self.drop("duplicate", _at(places[repeated(self.column(lambda chunk: chunk.text)[places])], len(self.left)))

    def drop_near_duplicates(
        self, threshold: float, spool: Spool, workers: Workers, said: Callable[[int, int], None]
    ) -> None:
        """Drop rows that are nearly equal to an earlier one, system turn or not; see near_duplicates.py. `said` hears of rows done, of all."""
        if threshold < 1 and self.left.any():
            places = np.nonzero(self.left)[0]
            self.drop(
                "near_duplicate", _at(places[_nearly_equal(self, threshold, spool, workers, said)], len(self.left))
            )

    def drop_contaminated(self, grams: int) -> int:
        """Drop rows whose prompt is an evaluation prompt, or shares a run of words with one.

        A run that more than MOST of the rows have, of at least FEWEST, is an instruction that all of them begin with, and says nothing.

        Args:
            grams: How many runs the evaluation prompts have.

        Returns:
            How many runs of them say nothing.
        """
        counts = np.zeros(grams, dtype=np.int64)
        rows = int(self.left.sum())
        for _, numbers, _ in self._hits():
            counts += np.bincount(numbers, minlength=grams)
        telling = counts <= (MOST * rows if rows >= FEWEST else rows)
        bad = self.column(lambda chunk: chunk.known)
        start = np.cumsum([0, *(len(chunk.fate) for chunk in self.chunks)])
        for number, numbers, owner in self._hits():
            bad[start[number] + owner[telling[numbers]]] = True
        self.drop("contaminated", bad)
        return int((~telling).sum())

    def _hits(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each chunk with any its number, the n-grams that rows which are left share, and the rows, by their place in the chunk."""
        for number, (chunk, left) in enumerate(zip(self.chunks, self.parts(self.left), strict=True)):
            if chunk.hits is not None:
                owner = np.repeat(np.arange(len(chunk.hits)), chunk.hits)
                numbers = np.fromfile(chunk.path.with_suffix(HITS), dtype=np.int32)
                yield number, numbers[left[owner]], owner[left[owner]]

    def drop_over_long(self, most: int, most_of_prompt: int | None) -> None:
        """Drop rows of more than `most` tokens, and those whose prompt is longer than `most_of_prompt`."""
        bad = self.column(lambda chunk: chunk.lengths.total) > most
        if most_of_prompt is not None:
            bad |= self.column(lambda chunk: chunk.lengths.prompt) > most_of_prompt
        self.drop("over_long", bad)

    def sources(self) -> dict[str, int]:
        """Source -> number of its rows that are left, in order."""
        found: Counter[str] = Counter()
        for chunk, left in zip(self.chunks, self.parts(self.left), strict=True):
            counts = np.bincount(chunk.sources[left], minlength=len(chunk.labels))
            found.update({label: int(count) for label, count in zip(chunk.labels, counts, strict=True) if count})
        return dict(sorted(found.items()))


def _at(places: np.ndarray, rows: int) -> np.ndarray:
    found = np.zeros(rows, dtype=bool)
    found[places] = True
    return found


def contradictory(digests: np.ndarray, meant: np.ndarray) -> np.ndarray:
    """For each digest [rows, 2] whether rows of it have different numbers of `meant` [rows]; [rows], booleans."""
    if not len(digests):
        return np.zeros(0, dtype=bool)
    order = np.lexsort((meant, digests[:, 1], digests[:, 0]))
    is_new = np.append(True, (digests[order[1:]] != digests[order[:-1]]).any(axis=1))
    group = np.cumsum(is_new) - 1
    bad = np.zeros(group[-1] + 1, dtype=bool)
    bad[group[1:][~is_new[1:] & (meant[order[1:]] != meant[order[:-1]])]] = True
    found = np.zeros(len(digests), dtype=bool)
    found[order] = bad[group]
    return found


def repeated(digests: np.ndarray) -> np.ndarray:
    """For each digest [rows, 2] whether an earlier row has it, too [rows], booleans."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # rows of one digest stay in their order
    found = np.zeros(len(digests), dtype=bool)
    found[order[1:]] = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    return found


APART = np.uint64(0x9E3779B97F4A7C15)
"""An odd number: numbers of bands of rows with different meanings differ by a multiple of it."""


def _nearly_equal(
    table: Table, threshold: float, spool: Spool, workers: Workers, said: Callable[[int, int], None]
) -> np.ndarray:
    """For each row that is left whether it is nearly equal to an earlier one that was kept; memory holds the numbers of one band at a time.

    Rows that say another thing of their text (a label, an order, weights of turns) are not compared: a long prompt with "Yes." and with
    "No." is nearly one text, and one answer is good where the other is not.
    """
    left = table.parts(table.left)
    pairs = list(zip(table.chunks, left, strict=True))
    common = near_duplicates.common_shingles(
        lambda: (_chosen(chunk.path.with_suffix(OWN), chunk.shingles, mask) for chunk, mask in pairs),
        int(table.left.sum()),
    )
    counts = [chunk.shingles for chunk in table.chunks]
    if len(common):
        counts = list(
            workers.map(
                _write_without, ((chunk.path, chunk.shingles, common, chunk.whole is None) for chunk in table.chunks)
            )
        )
    own = _gathered(
        spool, [(chunk.path.with_suffix(OWN), count, mask) for (chunk, mask), count in zip(pairs, counts, strict=True)]
    )
    whole = own
    if len(common) or any(chunk.whole is not None for chunk in table.chunks):
        whole = _gathered(
            spool,
            [
                (chunk.path.with_suffix(OWN), chunk.shingles, mask)
                if chunk.whole is None and not len(common)
                else (chunk.path.with_suffix(WHOLE), chunk.shingles if chunk.whole is None else chunk.whole, mask)
                for chunk, mask in pairs
            ],
        )

    def keys_of(band: int) -> np.ndarray:
        return np.concatenate(
            [(_keys(chunk.path, band, len(mask)) ^ chunk.meant * APART)[mask] for chunk, mask in pairs]
        )

    return find(keys_of, BANDS, own, whole, threshold, said)


def _write_without(path: Path, counts: np.ndarray, common: np.ndarray, keep: bool) -> np.ndarray:
    """Take the common shingles out of a chunk's own, with the numbers of its bands; `keep` the others as those of the whole texts."""
    place = path.with_suffix(OWN)
    flat = np.fromfile(place, dtype=np.uint32)
    if keep:
        place.rename(path.with_suffix(WHOLE))
    flat, counts = near_duplicates.without_common(flat, counts, common)
    flat.tofile(place)
    near_duplicates.band_keys(flat, counts).tofile(path.with_suffix(KEYS))
    return counts


def _keys(path: Path, band: int, rows: int) -> np.ndarray:
    return np.fromfile(path.with_suffix(KEYS), dtype=np.uint64, count=rows, offset=band * rows * 8)


def _chosen(path: Path, counts: np.ndarray, mask: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = np.fromfile(path, dtype=np.uint32)[np.repeat(mask, counts)]
    return chosen


def _gathered(spool: Spool, parts: Sequence[tuple[Path, np.ndarray, np.ndarray]]) -> Sets:
    """The shingles of the rows that are left, in one file that is mapped."""
    place = spool.new(OWN)
    with open(place, "wb") as file:
        for path, counts, mask in parts:
            _chosen(path, counts, mask).tofile(file)
    counts = np.concatenate([counts[mask] for _, counts, mask in parts])
    return Sets.of(np.memmap(place, dtype=np.uint32, mode="r"), counts)
