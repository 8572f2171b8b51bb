"""Groups of one negative answer and the samples that it is compared with, from lists of scored answers or from pairs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignflow.data.run import Run
from alignflow.models.losses.base import Role
from alignflow.models.stored_rows import Picked
from alignflow.models.trainers.offline_rows import OfflineRows, read_rankings_with_copies, read_two_of_list


def read_lowest_as_negative(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The lists of a table of rankings: the answer with the lowest score is the negative one, the others are the samples."""
    return rows_of_lists(read_rankings_with_copies(path, tokenizer, max_length, run, stage, context), path, run)


def read_rejected_as_negative(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a preference table: the rejected answer is the negative one, the chosen one the only sample."""
    return rows_of_lists(read_two_of_list(path, tokenizer, max_length, run, stage, context), path, run)


def rows_of_lists(lists: OfflineRows, path: Path, run: Run) -> OfflineRows:
    """Groups of one REJECTED and at least one OTHER answer, from lists with scores; samples are wanted, negatives are not.

    Dropped, and counted in warnings: samples with the negative answer's score, which are no better; samples with its
    tokens, which would raise its probability; and lists without a sample left.
    """
    assert lists.score is not None
    found = _Groups()
    for number in range(len(lists)):
        _add(found, lists, number)
    for count, what in (
        (found.tied, "samples of {} have the lowest score of their list, like the negative answer,"),
        (found.identical, "samples of {} have the same tokens as their list's negative answer"),
        (len(lists) - len(found.rows), "lists of {} have no sample besides the negative answer"),
    ):
        if count:
            run.warn(f"{count} {what.format(path.stem)} and were dropped")
    kept = np.array(found.members, dtype=np.int64)
    at, negative = torch.from_numpy(kept), torch.tensor(found.negative, dtype=torch.bool)
    return OfflineRows(
        Picked(kept, lists.answers),
        lists.answer_lengths[kept],
        lists.answer_tokens[kept],
        np.arange(len(kept)),
        np.concatenate([[0], np.cumsum(found.sizes)]).astype(np.int64),
        found.lengths,
        Picked(np.array(found.rows, dtype=np.int64), lists.ids),
        torch.where(negative, int(Role.REJECTED), int(Role.OTHER)),
        lists.ended[at],
        lists.soft_label[at],
        label=(~negative).float(),
        score=lists.score[at],
        weight=None if lists.weight is None else lists.weight[found.rows],
    )


@dataclass
class _Groups:
    """The kept lists with their sizes and tokens, their answers in order, and the number of dropped samples."""

    rows: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    lengths: array[int] = field(default_factory=lambda: array("i"))
    members: list[int] = field(default_factory=list)
    negative: list[bool] = field(default_factory=list)
    tied: int = 0
    identical: int = 0


def _add(found: _Groups, lists: OfflineRows, number: int) -> None:
    assert lists.score is not None
    own = lists.members[lists.starts[number] : lists.starts[number + 1]]
    scores = lists.score.numpy()[own]
    lowest = int(own[int(np.argmin(scores))])
    better = [int(place) for place in own[scores > scores.min()]]
    row = lists.answers[lowest]
    samples = [place for place in better if list(lists.answers[place].completion_ids) != list(row.completion_ids)]
    found.tied += len(own) - 1 - len(better)
    found.identical += len(better) - len(samples)
    if not samples:
        return
    found.rows.append(number)
    found.sizes.append(1 + len(samples))
    found.members += [lowest, *samples]
    found.negative += [True, *[False] * len(samples)]
    prompt = len(row.prompt_ids)
    found.lengths.append(prompt + sum(int(lists.answer_lengths[place]) - prompt for place in (lowest, *samples)))
