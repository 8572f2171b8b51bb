"""Groups of answers for offline methods: pairs, single answers with a label, lists of scored answers, demonstrations.

A row is a group: the optimizer counts groups, and a group is never split over forward passes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from alignflow.data.encoded_kinds import RANKINGS, UNPAIRED
from alignflow.data.encoded_rows import EncodedRows
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.losses.base import Role
from alignflow.models.stored_rows import Picked, StoredRows, open_rows, plain
from alignflow.models.trainers.contradicted import contradicted
from alignflow.models.trainers.mismatched import find_mismatched
from alignflow.models.trainers.pairs import Pairs, read_pairs
from alignflow.models.trainers.room import room
from alignflow.models.trainers.sft import read_rows


@dataclass(frozen=True)
class OfflineRows:
    """Groups of answers; token ids are read from a file when they are asked for.

    Attributes:
        answers: (answers,) all answers; scores of a reference have this order.
        answer_lengths: (answers,) int64: tokens of each, its prompt included.
        answer_tokens: (answers,) int64: tokens of each that count.
        members: (answers,) int64: positions in `answers`, group after group.
        starts: (groups + 1,) int64: start of each group in `members`.
        lengths: Tokens of each group in one forward pass; a prompt that its answers share counts once.
        ids: Names of the groups.
        role: (answers,) int64, values of `Role`.
        ended: (answers,) bool: whether the answer ended by itself.
        soft_label: (answers,) fp32: the labeller's P(this group's chosen answer is better); NaN if it gave none.
        label: (answers,) fp32: 1 if the answer is wanted, 0 if not; None for data without labels.
        score: (answers,) fp32: higher is better; NaN if there is none; None for data without scores.
        prompts: Whether the NLL of the wanted answers includes the tokens of their prompts; see `with_prompts.py`.
        mismatched: (answers,) int64: an answer of another prompt for each; -1 if none fits, and None if the method does not need them.
        weight: (groups,) fp32, above 0: weight of a group in the loss; None if all count 1. See `row_weights.py`.
    """

    answers: Sequence[EncodedRow]
    answer_lengths: np.ndarray
    answer_tokens: np.ndarray
    members: np.ndarray
    starts: np.ndarray
    lengths: array[int]
    ids: Sequence[str]
    role: torch.Tensor
    ended: torch.Tensor
    soft_label: torch.Tensor
    label: torch.Tensor | None = None
    score: torch.Tensor | None = None
    mismatched: np.ndarray | None = None
    prompts: bool = False
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def places(self, rows: Sequence[int]) -> tuple[np.ndarray, torch.Tensor]:
        """Positions in `answers` of the answers of some rows, and for each the position of its row in `rows`, both (n,).

        Chosen answers come first, then rejected ones, then others: each part in the order of `rows`. Answers with scores are in the order of
        their lists, row after row: a best answer in the first place would have rank 1 if the policy's scores are equal.
        """
        found = [self.members[self.starts[row] : self.starts[row + 1]] for row in rows]
        flat = np.concatenate([np.empty(0, np.int64), *found]).astype(np.int64)
        owners = np.repeat(np.arange(len(rows)), [len(part) for part in found])
        if self.score is not None:
            return flat, torch.from_numpy(owners)
        order = np.argsort(self.role.numpy()[flat], kind="stable")
        return flat[order], torch.from_numpy(owners[order])

    @cached_property
    def wanted(self) -> np.ndarray:
        """(answers,) bool: the answers that SFT would train on: chosen ones, those with a good label, the best of each list."""
        if self.label is not None:
            return self.label.numpy() == 1
        return self.role.numpy() == int(Role.CHOSEN)

    @cached_property
    def any_wanted(self) -> bool:
        """Whether there is an answer that SFT would train on; answers with only scores have none."""
        return bool(self.wanted.any())

    def wanted_tokens(self) -> array[int]:
        """(groups,): tokens of each group that its NLL is over."""
        counted = np.where(self.wanted, self.answer_lengths - 1 if self.prompts else self.answer_tokens, 0)[
            self.members
        ]
        return plain(np.diff(np.concatenate([[0], counted.cumsum()])[self.starts]))

    def with_mismatched(self, longest: int) -> OfflineRows:
        """The same with an answer to another prompt for each answer, which fits in `longest` tokens; see `find_mismatched`."""
        return replace(
            self,
            mismatched=find_mismatched(self.answers, self.members, self.answer_lengths, self.answer_tokens, longest),
        )

    def mismatched_row(self, place: int) -> EncodedRow | None:
        """The prompt of the answer at `place` with the answer to another prompt; None if none fits."""
        other = -1 if self.mismatched is None else int(self.mismatched[place])
        return None if other < 0 else EncodedRow(self.answers[place].prompt_ids, self.answers[other].completion_ids)

    def mismatched_length(self, place: int) -> int:
        """Tokens of `mismatched_row`, without reading its ids. It must exist, and all tokens of the answers must count."""
        assert self.mismatched is not None
        other = int(self.mismatched[place])
        return int(self.answer_lengths[place] - self.answer_tokens[place] + self.answer_tokens[other])


def rows_of_pairs(pairs: Pairs) -> OfflineRows:
    """Pairs as groups of a chosen and a rejected answer."""
    count = len(pairs)
    tokens = np.concatenate([np.asarray(pairs.chosen.supervised), np.asarray(pairs.rejected.supervised)])
    lengths = np.concatenate([np.asarray(pairs.chosen.lengths), np.asarray(pairs.rejected.lengths)])
    return OfflineRows(
        ConcatDataset([pairs.chosen, pairs.rejected]) if count else [],
        lengths.astype(np.int64),
        tokens.astype(np.int64),
        np.arange(2 * count).reshape(2, count).T.flatten(),
        np.arange(0, 2 * count + 1, 2),
        pairs.lengths,
        pairs.ids,
        torch.tensor([int(Role.CHOSEN), int(Role.REJECTED)]).repeat_interleave(count),
        pairs.ended.flatten(),
        pairs.soft_label.repeat(2),
        weight=pairs.weight,
    )


def read_paired(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a preference table; see `read_pairs`."""
    return rows_of_pairs(read_pairs(path, tokenizer, max_length, run, stage, context))


def read_halves(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a preference table as single answers: the chosen ones are wanted, the rejected ones are not."""
    pairs = rows_of_pairs(read_pairs(path, tokenizer, max_length, run, stage, context))
    return replace(
        pairs,
        starts=np.arange(len(pairs.members) + 1),
        lengths=plain(pairs.answer_lengths[pairs.members]),
        ids=Picked(pairs.members, _Named(pairs)),
        label=(pairs.role == int(Role.CHOSEN)).float(),
        role=torch.full_like(pairs.role, int(Role.OTHER)),
        weight=None if pairs.weight is None else pairs.weight.repeat_interleave(2),
    )


class _Named:
    """The name of an answer of a pair, by its position among all answers."""

    def __init__(self, pairs: OfflineRows):
        self._ids, self._count = pairs.ids, len(pairs)

    def __getitem__(self, place: int) -> str:
        return f"{self._ids[place % self._count]}/{'chosen' if place < self._count else 'rejected'}"


def read_unpaired(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The rows of a table of answers with a label; those over `max_length` tokens or the model's `context` are dropped and counted.

    Every process of a stage must call it.

    Raises:
        TrainingError: an answer has no token.
    """
    encoded = open_rows(path, UNPAIRED, tokenizer, run)
    longest, limit = room(max_length, context, "max_length")
    fits = encoded.lengths("completion") <= longest
    _refuse_empty(encoded, fits, stage)
    _say_left_out(int(np.count_nonzero(~fits)), "answers", path, limit, run)
    positions = np.flatnonzero(fits)
    answers = StoredRows(encoded, "completion", positions)
    count = len(positions)
    return OfflineRows(
        answers,
        encoded.lengths("completion")[positions].astype(np.int64),
        encoded.supervised["completion"][positions].astype(np.int64),
        np.arange(count),
        np.arange(count + 1),
        answers.lengths,
        Picked(positions, encoded.names),
        torch.full((count,), int(Role.OTHER)),
        torch.tensor(encoded.values["ended"][positions] != 0.0),
        torch.full((count,), float("nan")),
        label=torch.tensor(encoded.values["label"][positions], dtype=torch.float32),
    )


def read_rankings(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The lists of a table of rankings, without answers that have no score or are over `max_length` tokens or the model's `context`.

    So are answers with the same tokens and different scores, and lists with fewer than two different scores. All that is
    dropped is counted. The best answer of a list has the role CHOSEN (of equal ones the first), the others OTHER. The order within a
    list is shuffled by its name: LiPO's ranks follow it where the policy's scores are equal, as they are at the start.

    Every process of a stage must call it.

    Raises:
        TrainingError: an answer has no token.
    """
    encoded, usable = _scored_answers(path, tokenizer, max_length, run, stage, context)
    if count := int((twice := contradicted(encoded, usable, _scores(encoded))).sum()):
        run.warn(f"{count} answers of {path.stem} have the tokens of another one with another score, and were dropped")
    return _ranked(encoded, usable & ~twice, path, run)


def read_rankings_with_copies(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """As `read_rankings`, but answers with the same tokens and different scores are kept, for a reader that decides which one counts."""
    return _ranked(*_scored_answers(path, tokenizer, max_length, run, stage, context), path, run)


def _ranked(encoded: EncodedRows, usable: np.ndarray, path: Path, run: Run) -> OfflineRows:
    groups, small = _lists(encoded, usable)
    if small:
        run.warn(f"{small} lists of {path.stem} have fewer than two answers of different scores and were dropped")
    return _of_lists(encoded, groups)


def read_scored(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The answers of a table of rankings as separate rows, each with its score; equal scores and lists of one are kept.

    Answers that have no score or are over `max_length` tokens or the model's `context` are dropped and counted.

    Every process of a stage must call it.

    Raises:
        TrainingError: an answer has no token.
    """
    encoded, usable = _scored_answers(path, tokenizer, max_length, run, stage, context)
    positions = np.flatnonzero(usable)
    rows = _of_lists(encoded, [np.array([position]) for position in positions])
    return replace(rows, role=torch.full_like(rows.role, int(Role.OTHER)), ids=Picked(positions, _Placed(encoded)))


class _Placed:
    """The name of an answer of a list: the list's name, and its position in it."""

    def __init__(self, encoded: EncodedRows):
        self._encoded = encoded

    def __getitem__(self, position: int) -> str:
        return f"{self._encoded.names[position]}/{int(self._encoded.values['place'][position])}"


def _scored_answers(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None
) -> tuple[EncodedRows, np.ndarray]:
    """The answers of a table of rankings, and which of them have a score and fit; the others are counted."""
    encoded = open_rows(path, RANKINGS, tokenizer, run)
    longest, limit = room(max_length, context, "max_length")
    score = encoded.values["score"]
    fits = encoded.lengths("completion") <= longest
    _refuse_empty(encoded, fits, stage)
    _say_left_out(int(np.count_nonzero(~fits)), "answers", path, limit, run)
    if unscored := int(np.count_nonzero(fits & np.isnan(score))):
        run.warn(f"{unscored} answers of {path.stem} have no score and were dropped")
    return encoded, fits & ~np.isnan(score)


def _lists(encoded: EncodedRows, usable: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Positions of the answers of each list, and how many lists have no two different scores."""
    score, begins = _scores(encoded), np.flatnonzero(encoded.values["place"] == 0)
    groups, small = [], 0
    for first, last in zip(begins, np.append(begins, len(encoded))[1:], strict=True):
        own = np.arange(first, last)[usable[first:last]]
        if len(np.unique(score[own])) < 2:
            small += 1
            continue
        digest = hashlib.sha256(encoded.names[int(first)].encode()).digest()
        groups.append(np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(own))
    return groups, small


def _scores(encoded: EncodedRows) -> np.ndarray:
    """(answers,) fp32, as losses read them: mean probabilities that differ by fp64 rounding are equal, and make no pair."""
    return encoded.values["score"].astype(np.float32)


def _of_lists(encoded: EncodedRows, groups: Sequence[np.ndarray]) -> OfflineRows:
    positions = np.concatenate([np.empty(0, np.int64), *groups]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum([len(own) for own in groups])]).astype(np.int64)
    values = _scores(encoded)
    score = torch.from_numpy(values[positions])
    role = torch.full((len(positions),), int(Role.OTHER))
    lengths = encoded.lengths("completion").astype(np.int64)
    totals = []
    for first, own in zip(starts, groups, strict=False):
        role[int(first) + int(np.argmax(values[own]))] = int(Role.CHOSEN)
        totals.append(int(lengths[own].sum()) - (len(own) - 1) * int(encoded.prompt_lengths["completion"][own[0]]))
    answers = StoredRows(encoded, "completion", positions)
    return OfflineRows(
        answers,
        lengths[positions],
        encoded.supervised["completion"][positions].astype(np.int64),
        np.arange(len(positions)),
        starts,
        array("i", totals),
        Picked(np.array([own[0] for own in groups], dtype=np.int64), encoded.names),
        role,
        torch.tensor(encoded.values["ended"][positions] != 0.0),
        torch.full((len(positions),), float("nan")),
        score=score,
    )


def read_two_of_list(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a preference table as lists of two: the chosen answer has the score 1, the rejected one 0."""
    pairs = read_paired(path, tokenizer, max_length, run, stage, context)
    chosen = pairs.role == int(Role.CHOSEN)
    return replace(pairs, score=chosen.float(), role=torch.where(chosen, pairs.role, int(Role.OTHER)))


def read_demonstrations(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The conversations of a table of demonstrations, as in `train_sft`: the tokens of assistant turns count, and all answers are wanted."""
    ids, answers = read_rows(path, tokenizer, max_length, run, context, stage)
    count, lengths = len(answers), answers.lengths
    return OfflineRows(
        answers,
        np.array(lengths, dtype=np.int64),
        np.array(answers.supervised, dtype=np.int64),
        np.arange(count),
        np.arange(count + 1),
        lengths,
        ids,
        torch.full((count,), int(Role.CHOSEN)),
        torch.ones(count, dtype=torch.bool),
        torch.full((count,), float("nan")),
    )


Reader = Callable[[Path, Any, int, Run, str, int | None], OfflineRows]
"""Table, tokenizer, longest row in tokens, run, name of the stage, the model's context -> its rows."""


def _refuse_empty(encoded: EncodedRows, fits: np.ndarray, stage: str) -> None:
    for position in np.flatnonzero(fits & (encoded.completion_lengths["completion"] == 0))[:1]:
        raise TrainingError(
            "the answer has no tokens",
            where=f"{stage}, row {encoded.names[int(position)]}",
            do="drop empty answers from the data",
        )


def _say_left_out(number: int, what: str, path: Path, limit: str, run: Run) -> None:
    if number:
        run.warn(f"{number} {what} of {path.stem} are over {limit} and were dropped")
