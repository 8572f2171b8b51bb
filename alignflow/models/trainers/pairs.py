"""Preference rows as token ids."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignflow.data.encoded_kinds import PREFERENCES
from alignflow.data.encoded_rows import EncodedRows
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.stored_rows import Picked, StoredRows, open_rows, plain
from alignflow.models.trainers.room import room


@dataclass(frozen=True)
class Pairs:
    """Encoded preference rows, one entry per pair; ids and names are read from a file when they are asked for.

    Attributes:
        table: The table that they are rows of.
        encoded: The token ids of all rows of the table.
        positions: (pairs,) int64: the rows of the table that these are.
        soft_label: (pairs,) fp32 P(chosen is better), NaN if there is none.
        margin: (pairs,) fp32 score difference, NaN if there is none.
        ended: (2, pairs) bool: whether the chosen and the rejected answer end by themselves, the default if the table does not say.
        weight: (pairs,) fp32, weight of each in a loss, above 0; None if all count 1.
    """

    table: Path
    encoded: EncodedRows
    positions: np.ndarray
    soft_label: torch.Tensor
    margin: torch.Tensor
    ended: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> Sequence[str]:
        """Names of the rows."""
        return Picked(self.positions, self.encoded.names)

    @property
    def chosen(self) -> StoredRows:
        """The better answers."""
        return StoredRows(self.encoded, "chosen", self.positions)

    @property
    def rejected(self) -> StoredRows:
        """The worse answers."""
        return StoredRows(self.encoded, "rejected", self.positions)

    @property
    def lengths(self) -> array[int]:
        """Tokens of each pair in a forward pass: a prompt that both sides share counts once."""
        shared = self.encoded.repeats["rejected"] * self.encoded.prompt_lengths["chosen"]
        return plain((self.encoded.lengths("chosen") + self.encoded.lengths("rejected") - shared)[self.positions])

    def both(self, rows: Sequence[int]) -> list[EncodedRow]:
        """The chosen sides of `rows`, then their rejected sides: one forward pass holds both."""
        read = [self.encoded.row(int(self.positions[row])) for row in rows]
        return [EncodedRow(*sides[number]) for number in range(2) for sides in read]


def read_pairs(path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None) -> Pairs:
    """Encode a preference table; pairs with a side over `max_length` tokens or the model's `context` are dropped and counted in a warning.

    Every process of a stage must call it.

    Raises:
        TrainingError: a side has no token, or a weight is not above 0.
    """
    encoded = open_rows(path, PREFERENCES, tokenizer, run)
    longest, limit = room(max_length, context, "max_length")
    fits = np.maximum(encoded.lengths("chosen"), encoded.lengths("rejected")) <= longest
    empty = np.minimum(encoded.completion_lengths["chosen"], encoded.completion_lengths["rejected"]) == 0
    for position in np.flatnonzero(fits & empty)[:1]:
        raise TrainingError(
            "the answer has no tokens",
            where=f"{stage}, row {encoded.names[int(position)]}",
            do="drop empty answers from the preferences",
        )
    if too_long := int(np.count_nonzero(~fits)):
        run.warn(f"{too_long} pairs of {path.stem} are over {limit} and were dropped")
    positions = np.flatnonzero(fits)
    soft_label, margin = (
        torch.tensor(encoded.values[name][positions], dtype=torch.float32) for name in ("soft_label", "margin")
    )
    ended = torch.tensor(np.stack([encoded.values[f"{side}_ended"][positions] != 0.0 for side in PREFERENCES.answers]))
    weight = _weights(encoded, positions, stage)
    return Pairs(path, encoded, positions, soft_label, margin, ended, weight)


def _weights(encoded: EncodedRows, positions: np.ndarray, stage: str) -> torch.Tensor | None:
    """(pairs,) fp32 weights; None if every pair has weight 1 or none, so that losses are computed without weights."""
    found = encoded.values["weight"][positions]
    found = np.where(np.isnan(found), 1.0, found)
    for place in np.flatnonzero(~(np.isfinite(found) & (found > 0)))[:1]:
        raise TrainingError(
            f"the weight is {found[place]:g}; a pair's weight must be above 0",
            where=f"{stage}, row {encoded.names[int(positions[place])]}",
            do="remove pairs that must not count from the preferences",
        )
    return None if bool(np.all(found == 1.0)) else torch.tensor(found, dtype=torch.float32)
