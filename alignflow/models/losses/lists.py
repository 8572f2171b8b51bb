"""Lists of answers to one prompt, ordered by their labels: groups of any sizes as padded grids, their pairs, and their metrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from alignflow.models.losses.base import OfflineBatch, at_least_fp32


@dataclass(frozen=True)
class Lists:
    """The answers with a label, list after list: K is the size of the longest list.

    Within a list, answers are in the order of the batch.

    Attributes:
        places: (lists, K) int64: the position in the batch of each answer, 0 in padding.
        mask: (lists, K) bool: True for an answer; padding is at the end of a list.
        labels: (lists, K) fp32 or wider, without gradients; higher is better; 0 in padding.
    """

    places: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor

    def grid(self, values: torch.Tensor) -> torch.Tensor:
        """Figures per answer of the batch, (answers,), as (lists, K): 0 in padding, without gradient."""
        return torch.where(self.mask, values[self.places], values.new_zeros(()))

    def sizes(self) -> torch.Tensor:
        """(lists,) int64: numbers of answers."""
        return self.mask.sum(1)

    def better(self) -> torch.Tensor:
        """(lists, K, K) bool: whether the answer of the row has a strictly higher label than that of the column; ties are not pairs."""
        return better(self.labels, self.mask)

    def best(self, grid: torch.Tensor) -> torch.Tensor:
        """(lists,): a grid's figure of the answer with the highest label, the first of equal ones; 0 for a list without answers."""
        return _at(grid, torch.where(self.mask, self.labels, -torch.inf).argmax(1))

    def worst(self, grid: torch.Tensor) -> torch.Tensor:
        """(lists,): a grid's figure of the answer with the lowest label, the first of equal ones; 0 for a list without answers."""
        return _at(grid, torch.where(self.mask, self.labels, torch.inf).argmin(1))

    def metrics(self, rewards: torch.Tensor, logps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Figures of each list, (lists,), under TRL's names, where the best answer is chosen and the worst is rejected.

        `rewards/accuracies`: the share of strictly ordered pairs that the rewards order alike; as in TRL, a pair with equal
        rewards is not accurate. NaN for a list without such a pair; a list without answers has NaN everywhere.

        Args:
            rewards: (lists, K) implicit rewards.
            logps: (lists, K) sums of log-probabilities.
        """
        with torch.no_grad():
            pairs = self.better()
            right = pairs & (differences(rewards) > 0)
            figures = {
                "rewards/chosen": self.best(rewards),
                "rewards/rejected": self.worst(rewards),
                "rewards/margins": self.best(rewards) - self.worst(rewards),
                "rewards/accuracies": right.sum((1, 2)).to(rewards.dtype) / pairs.sum((1, 2)),
                "logps/chosen": self.best(logps),
                "logps/rejected": self.worst(logps),
            }
            return {name: torch.where(self.mask.any(1), values, torch.nan).detach() for name, values in figures.items()}


def lists_of(batch: OfflineBatch) -> Lists:
    """The lists of a batch: one for each group, in the order of the groups' numbers, of the answers that have a score.

    Raises ValueError if the batch has no scores.
    """
    if batch.score is None:
        raise ValueError("this loss orders the answers of a group: pass their scores")
    return make_lists(batch.group, batch.score)


def make_lists(group: torch.Tensor, labels: torch.Tensor) -> Lists:
    """Lists from (answers,) int64 numbers of groups and (answers,) labels; an answer whose label is NaN is in no list."""
    numbers, owners = group.unique(return_inverse=True)
    answers = (~labels.isnan()).nonzero()[:, 0]
    answers = answers[owners[answers].argsort(stable=True)]
    owners = owners[answers]
    sizes = torch.bincount(owners, minlength=len(numbers))
    columns = torch.arange(len(answers), device=group.device) - (sizes.cumsum(0) - sizes)[owners]
    longest = int(sizes.max()) if len(answers) else 1
    places = torch.zeros(len(numbers), longest, dtype=torch.long, device=group.device)
    places[owners, columns] = answers
    mask = torch.arange(longest, device=group.device) < sizes[:, None]
    values = at_least_fp32(labels).detach()
    return Lists(places, mask, torch.where(mask, values[places], values.new_zeros(())))


def better(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(..., K, K) bool from (..., K) labels: the row's answer is strictly better than the column's, and neither is padding."""
    return (labels[..., :, None] > labels[..., None, :]) & mask[..., :, None] & mask[..., None, :]


def differences(values: torch.Tensor) -> torch.Tensor:
    """(..., K, K) from (..., K): the row's value minus the column's."""
    return values[..., :, None] - values[..., None, :]


def best_first(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(..., K) int64: the columns from the highest label to the lowest, equal ones in the order of the list, padding last."""
    present = mask.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    order = torch.where(mask, labels, -torch.inf).gather(-1, present).argsort(dim=-1, descending=True, stable=True)
    return present.gather(-1, order)


def masked_logsumexp(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Masked log sum exp over the last dimension; arbitrary, but finite and without gradient, if the mask is empty."""
    return torch.where(mask, values, torch.finfo(values.dtype).min).logsumexp(-1)


def _at(grid: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return grid.gather(1, columns[:, None])[:, 0]
