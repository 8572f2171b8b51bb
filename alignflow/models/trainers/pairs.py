"""Preference rows as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignflow.data.errors import TrainingError
from alignflow.data.records import read_table
from alignflow.data.rendering import encode_turn
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow, packed_length
from alignflow.models.trainers.room import room


@dataclass(frozen=True)
class Pairs:
    """Encoded preference rows, one entry per pair.

    Attributes:
        ids: Names of the rows.
        chosen: The better answers.
        rejected: The worse ones.
        soft_label: (rows,) fp32 P(chosen is better), NaN where there is none.
        margin: (rows,) fp32 score difference, NaN where there is none.
        rows: The table's rows that these are.
    """

    ids: list[str]
    chosen: list[EncodedRow]
    rejected: list[EncodedRow]
    soft_label: torch.Tensor
    margin: torch.Tensor
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair in a forward pass: a prompt that both sides share counts once."""
        return [packed_length(pair) for pair in zip(self.chosen, self.rejected, strict=True)]

    def both(self, rows: Sequence[int]) -> list[EncodedRow]:
        """The chosen sides of `rows`, then their rejected sides: one forward pass holds both."""
        return [self.chosen[row] for row in rows] + [self.rejected[row] for row in rows]


def read_pairs(path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None) -> Pairs:
    """Encode a preference table; pairs with a side over `max_length` tokens or the model's `context` are dropped and counted in a warning.

    Raises:
        TrainingError: a side has no token, or no pair is left.
    """
    ids, chosen, rejected, soft, margin, kept, too_long = [], [], [], [], [], [], 0
    longest, limit = room(max_length, context, "max_length")
    for row in read_table(path):
        sides = [encode_side(tokenizer, row, side) for side in ("chosen", "rejected")]
        if max(len(side) for side in sides) > longest:
            too_long += 1
            continue
        if not all(side.completion_ids for side in sides):
            raise TrainingError(
                "an answer without a single token", where=f"{stage}, row {row['id']}", do="drop empty answers from the preferences"
            )
        ids.append(row["id"])
        chosen.append(sides[0])
        rejected.append(sides[1])
        soft.append(float("nan") if row["soft_label"] is None else row["soft_label"])
        margin.append(float("nan") if row["margin"] is None else row["margin"])
        kept.append(row)
    if too_long:
        run.warn(f"{too_long} pairs of {path.stem} are over {limit} and were left out")
    return Pairs(ids, chosen, rejected, torch.tensor(soft, dtype=torch.float32), torch.tensor(margin, dtype=torch.float32), kept)


def encode_side(tokenizer: Any, row: dict[str, Any], side: str) -> EncodedRow:
    """One answer of a pair: what comes before its last turn is its prompt; an answer that was cut has no end."""
    *before, last = row[side]
    ended = row[f"{side}_ended"] is not False
    turn = encode_turn(tokenizer, [*row["prompt"], *before], last["content"], ended=ended)
    return EncodedRow(tuple(turn.prompt_ids), tuple(turn.completion_ids))
