"""The rows that a reward model learns from, by loss: which answers a row has, and the loss of their scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignflow.data.configs.training import RewardConfig
from alignflow.data.records import assistant, table_batches
from alignflow.data.run import Run
from alignflow.models.losses.base import LossOutput
from alignflow.models.losses.reward import bradley_terry, reward_binary, reward_pointwise, reward_ranking
from alignflow.models.reward_model import Reader, ScoredRow, Scorer
from alignflow.models.trainers.offline_rows import (
    OfflineRows,
    read_halves,
    read_rankings,
    read_scored,
    read_two_of_list,
    read_unpaired,
)
from alignflow.models.trainers.pairs import Pairs, read_pairs

Loss = Callable[[Scorer, list[int]], LossOutput]
"""Model, positions of rows -> loss and metrics per row, differentiable; one forward pass holds all answers of the rows."""


@dataclass(frozen=True)
class RewardRows:
    """One split of the data.

    Attributes:
        noun: What a row is, for the model card and the names of figures: pairs, lists or answers.
        lengths: Tokens of each row in a forward pass.
        ids: Names of the rows.
        loss: Their loss.
        comparisons: (rows,) number of comparisons of two answers, or signs of one, in the mean of a row's accuracy.
        targets: (rows,) target scores of a regression; None for other losses.
        parts: Whether a row is a part of a row of its table, and is called NAME/PART.
        weight: (rows,) fp32, above 0: weight of a row in the loss and in its denominator; None if all count 1.
    """

    noun: str
    lengths: Sequence[int]
    ids: Sequence[str]
    loss: Loss
    comparisons: torch.Tensor
    targets: torch.Tensor | None = None
    parts: bool = False
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def sampled(self, places: Sequence[int]) -> RewardRows:
        """The rows at these positions, each as often as it is named."""

        def loss(reward: Scorer, rows: list[int]) -> LossOutput:
            return self.loss(reward, [places[row] for row in rows])

        lengths, ids = [self.lengths[place] for place in places], [self.ids[place] for place in places]
        targets = None if self.targets is None else self.targets[list(places)]
        weight = None if self.weight is None else self.weight[list(places)]
        return RewardRows(self.noun, lengths, ids, loss, self.comparisons[list(places)], targets, self.parts, weight)

    def table_names(self, count: int) -> set[str]:
        """Names of the rows of the table that the first `count` rows are of."""
        return {name.rpartition("/")[0] if self.parts else name for name in self.ids[:count]}


def read_reward_rows(config: RewardConfig, kind: str, path: Path, reward: Reader, run: Run) -> RewardRows:
    """The rows of a table of `kind` for the config's loss; rows that do not fit are dropped and counted in a warning.

    Every process of a stage must call it.

    Raises:
        TrainingError: an answer has no token.
    """
    arguments = (path, reward.tokenizer, config.max_length, run, "reward", reward.context_length)
    if config.loss == "bradley_terry":
        return _of_pairs(read_pairs(*arguments), config)
    if config.loss == "ranking":
        return _of_lists({"rankings": read_rankings, "preferences": read_two_of_list}[kind](*arguments), config)
    if config.loss == "binary":
        return _labelled(
            {"unpaired": read_unpaired, "preferences": read_halves}[kind](*arguments), parts=kind == "preferences"
        )
    return _scored(read_scored(*arguments))


def _of_pairs(pairs: Pairs, config: RewardConfig) -> RewardRows:
    def loss(reward: Scorer, rows: list[int]) -> LossOutput:
        chosen, rejected = reward.scores_packed(pairs.both(rows)).chunk(2)
        margin, soft_label = (values[rows].to(chosen.device) for values in (pairs.margin, pairs.soft_label))
        return bradley_terry(chosen, rejected, margin, soft_label, config)

    return RewardRows("pairs", pairs.lengths, pairs.ids, loss, torch.ones(len(pairs)), weight=pairs.weight)


def _of_lists(data: OfflineRows, config: RewardConfig) -> RewardRows:
    def loss(reward: Scorer, rows: list[int]) -> LossOutput:
        found, places, group = _scores(reward, data, rows)
        return reward_ranking(found, data.score[places].to(found.device), group.to(found.device), config)  # type: ignore[index]

    comparisons = torch.tensor(strict_pairs(data), dtype=torch.float32)
    return RewardRows("lists", data.lengths, data.ids, loss, comparisons, weight=data.weight)


def strict_pairs(data: OfflineRows) -> list[int]:
    """How many pairs of different scores each list has; computed list by list, since one grid of all would grow with the square of the longest."""
    scores, found = data.score.numpy()[data.members], []  # type: ignore[union-attr]
    for first, last in zip(data.starts[:-1], data.starts[1:], strict=True):
        equal = np.unique(scores[first:last], return_counts=True)[1]
        found.append(((last - first) * (last - first - 1) - int((equal * (equal - 1)).sum())) // 2)
    return found


def _labelled(data: OfflineRows, parts: bool) -> RewardRows:
    def loss(reward: Scorer, rows: list[int]) -> LossOutput:
        found, places, _ = _scores(reward, data, rows)
        return reward_binary(found, data.label[places].to(found.device))  # type: ignore[index]

    return RewardRows("answers", data.lengths, data.ids, loss, torch.ones(len(data)), parts=parts, weight=data.weight)


def _scored(data: OfflineRows) -> RewardRows:
    def loss(reward: Scorer, rows: list[int]) -> LossOutput:
        found, places, _ = _scores(reward, data, rows)
        return reward_pointwise(found, data.score[places].to(found.device))  # type: ignore[index]

    return RewardRows("answers", data.lengths, data.ids, loss, torch.zeros(len(data)), data.score, parts=True)


def _scores(reward: Scorer, data: OfflineRows, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(answers,) scores of the answers of some rows, their places in the data, and the place of each one's row in `rows`."""
    places, owners = data.places(rows)
    return reward.scores_packed([data.answers[int(place)] for place in places]), torch.from_numpy(places), owners


def check_rows(table: Path, kind: str, names: Collection[str], count: int) -> list[ScoredRow]:
    """Rows whose scores are stored with the model: the first `count` answers of the rows `names` of a table of `kind`, in its order."""
    rows: list[ScoredRow] = []
    for row in (row for batch in table_batches(table, 1024) for row in batch):
        if row["id"] in names:
            rows += ANSWERS_OF[kind](row)
        if len(rows) >= count:
            break
    return rows[:count]


def _answer(row: Mapping[str, Any], answer: Sequence[Mapping[str, Any]], ended: bool | None) -> ScoredRow:
    *before, last = answer
    return [*row["prompt"], *before], last["content"], ended is not False


def _answers_of_ranking(row: Mapping[str, Any]) -> list[ScoredRow]:
    ended = row["ended"] or [None] * len(row["completions"])
    return [_answer(row, assistant(text), flag) for text, flag in zip(row["completions"], ended, strict=True)]


ANSWERS_OF: Mapping[str, Callable[[Mapping[str, Any]], list[ScoredRow]]] = {
    "preferences": lambda row: [_answer(row, row[side], row[f"{side}_ended"]) for side in ("chosen", "rejected")],
    "unpaired": lambda row: [_answer(row, row["completion"], row["ended"])],
    "rankings": _answers_of_ranking,
}
"""Kind of table -> the answers of one of its rows."""
