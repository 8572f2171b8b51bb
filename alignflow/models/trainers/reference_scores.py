"""The data of an offline method with the scores of a frozen reference: read once, and checked to belong together."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alignflow.data import catalogue
from alignflow.data.artifacts import identity
from alignflow.data.errors import TrainingError
from alignflow.data.records import table_batches
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.policy import Policy
from alignflow.models.stored_rows import Picked
from alignflow.models.trainers.offline_rows import OfflineRows
from alignflow.models.trainers.room import context_of, room

SIDES = ("train", "heldout")
NOUNS = {
    "preferences": "preference pairs",
    "unpaired": "labelled answers",
    "rankings": "lists of scored answers",
    "win_rates": "best and worst answers",
    "demonstrations": "demonstrations",
}
ABOUT = "reference.json"
ROWS_AT_ONCE = 1024  # each row has the log-probabilities of all tokens


@dataclass(frozen=True)
class Scores:
    """A reference's scores of the answers of one split, in the order of `OfflineRows.answers`. All fp32, nats.

    Attributes:
        sums: (answers,): sums of log-probabilities.
        tokens: (N,): the log-probability of each token that counts, answer after answer; None unless the method asks for them.
        mismatched: (answers,): sums of an answer of another prompt to each answer's prompt, NaN if there is none; None as above.
    """

    sums: torch.Tensor
    tokens: torch.Tensor | None = None
    mismatched: torch.Tensor | None = None


References = dict[str, Scores]
"""`train`, `heldout` -> the scores of that split."""


@dataclass(frozen=True)
class Fed:
    """The data that a family learns from: its kind, and the directory of its splits."""

    family: str
    kind: str
    directory: Path


def fed_by(family: str, given: Mapping[str, Path | None], stage: str) -> Fed:
    """The data that a family learns from: of several inputs the most direct one, in the catalogue's order.

    Raises:
        TrainingError: there is no input that it can read.
    """
    kinds = [feed.kind for feed in catalogue.FAMILIES[family].feeds]
    for kind in kinds:
        if (directory := given.get(kind)) is not None:
            return Fed(family, kind, directory)
    raise TrainingError(f"no {NOUNS[kinds[0]]} to learn from", where=stage, do=f"use {' or '.join(kinds)}")


def read_sides(
    fed: Fed, policy: Policy, max_length: int, run: Run, stage: str, mismatched: bool = False
) -> dict[str, OfflineRows]:
    """Both splits of the data of a family; with `mismatched` each answer also has one of another prompt.

    Raises:
        TrainingError: nothing is left to learn from.
    """
    feed = catalogue.FAMILIES[fed.family].feed(fed.kind)
    read, context = feed.resolve(), context_of(policy.model)
    sides = {
        side: read(fed.directory / f"{side}.parquet", policy.tokenizer, max_length, run, stage, context)
        for side in SIDES
    }
    if not len(sides["train"]):
        raise TrainingError(
            f"no {NOUNS[fed.kind]} to learn from",
            where=stage,
            do="set align.max_length to a larger value, or use or label more data",
        )
    if mismatched:
        longest, _ = room(max_length, context, "max_length")
        sides = {side: rows.with_mismatched(longest) for side, rows in sides.items()}
        if lonely := sum(int((rows.mismatched < 0).sum()) for rows in sides.values()):
            run.warn(
                f"{lonely} answers have no answer of another prompt near them that fits in max_length: they are not in the estimate of the KL"
            )
    return sides


def mismatched_rows(rows: OfflineRows) -> Sequence[EncodedRow]:
    """The answers of other prompts that `rows` has, in the order of its answers; none if the method does not need them."""
    return [] if rows.mismatched is None else mismatched_at(rows, np.flatnonzero(rows.mismatched >= 0))


def mismatched_at(rows: OfflineRows, places: np.ndarray) -> Sequence[EncodedRow]:
    """The answers of other prompts of the answers at `places`, which all have one; each is read on access."""
    return Picked(places, _Mismatched(rows))


class _Mismatched:
    """The answer of another prompt, by the position of the answer that it belongs to."""

    def __init__(self, rows: OfflineRows):
        self._rows = rows

    def __getitem__(self, place: int) -> EncodedRow:
        found = self._rows.mismatched_row(place)
        assert found is not None
        return found


def answer_names(rows: OfflineRows) -> list[str]:
    """The name of the group of each answer, in the order of the answers."""
    names = [""] * len(rows.answers)
    for number in range(len(rows)):
        for place in rows.members[rows.starts[number] : rows.starts[number + 1]]:
            names[place] = rows.ids[number]
    return names


def read_references(directory: Path, data: dict[str, OfflineRows], per_token: bool = False) -> References:
    """The scores that `compute_reference` wrote, for the same answers.

    Raises:
        TrainingError: they belong to other answers, or to other tokens.
    """
    return {side: _read(directory / f"{side}.parquet", rows, per_token) for side, rows in data.items()}


def _read(path: Path, rows: OfflineRows, per_token: bool) -> Scores:
    expected = zip(answer_names(rows), rows.answer_tokens.tolist(), strict=True)
    sums, others, tokens = array("f"), array("f"), array("f")
    same = True
    for row in (row for batch in table_batches(path, ROWS_AT_ONCE) for row in batch):
        same = same and (row["id"], row["tokens"]) == next(expected, None)
        sums.append(row["logps"])
        others.append(math.nan if row["mismatched_logps"] is None else row["mismatched_logps"])
        tokens.extend(row["token_logps"] if per_token and row["token_logps"] else ())
    same = same and (not per_token or len(tokens) == int(rows.answer_tokens.sum()))
    if not same or next(expected, None) is not None:
        raise TrainingError(
            "the reference's log-probabilities belong to other rows or other tokens",
            where=str(path),
            do="compute them from the same data, with the same tokenizer and max_length",
        )
    return Scores(
        torch.tensor(sums, dtype=torch.float32),
        torch.tensor(tokens, dtype=torch.float32) if per_token else None,
        torch.tensor(others, dtype=torch.float32) if rows.mismatched is not None else None,
    )


def is_of(directory: Path, checkpoint: Path) -> bool:
    """Whether the log-probabilities in `directory` are those of `checkpoint`, byte for byte."""
    return json.loads((directory / ABOUT).read_text())["checkpoint"] == identity(checkpoint)[1]
