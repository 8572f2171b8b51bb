"""Pairs of a best and a worst answer with their win rates, for methods of self-play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alignflow.data.errors import TrainingError
from alignflow.data.records import table_batches
from alignflow.data.run import Run
from alignflow.models.trainers.offline_rows import OfflineRows, rows_of_pairs
from alignflow.models.trainers.pairs import read_pairs

SCORES = ("score_chosen", "score_rejected")


def read_best_and_worst(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a table of best and worst answers; `score` of each answer is its win rate, from 0 to 1.

    Every process of a stage must call it.

    Raises:
        TrainingError: a row has no win rates, or one that is not a probability.
    """
    pairs = read_pairs(path, tokenizer, max_length, run, stage, context)
    rates = torch.tensor(
        [[row[name] for name in SCORES] for batch in table_batches(path, 1024) for row in batch],
        dtype=torch.float32,
    ).reshape(-1, 2)
    own = rates[torch.from_numpy(pairs.positions)]
    for place in ((own < 0) | (own > 1) | own.isnan()).any(1).nonzero()[:1, 0]:
        raise TrainingError(
            f"the win rates are {own[place].tolist()}; they must be probabilities, from 0 to 1",
            where=f"{stage}, row {pairs.ids[int(place)]}",
            do="use the win_rates of a step `label`",
        )
    return replace(rows_of_pairs(pairs), score=own.T.flatten())


def read_pairs_of_two(
    path: Path, tokenizer: Any, max_length: int, run: Run, stage: str, context: int | None = None
) -> OfflineRows:
    """The pairs of a preference table as the best and the worst of two answers, each compared with the other and itself.

    P(chosen beats rejected) is the labeller's if it gave one, otherwise 1.
    """
    pairs = read_pairs(path, tokenizer, max_length, run, stage, context)
    better = torch.where(pairs.soft_label.isnan(), 1.0, pairs.soft_label)
    return replace(rows_of_pairs(pairs), score=torch.cat([0.5 + better, 1.5 - better]) / 2)
