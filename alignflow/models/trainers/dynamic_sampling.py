"""Answers of an update whose scores differ within each prompt: other prompts replace those whose answers have equal scores.

Yu et al. 2025, "DAPO", arXiv 2503.14476, equation 11. All sums are of this process's answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from alignflow.models.engines import group
from alignflow.models.rollouts import Rollouts
from alignflow.models.sequences import chosen_tokens


@dataclass(frozen=True)
class Sampled:
    """Answers with their scores; those to one prompt are adjacent.

    Attributes:
        rollouts: The answers.
        scores: (rows,) fp64, NaN if there is none.
        parts: Name of a source -> (rows,) fp64.
    """

    rollouts: Rollouts
    scores: torch.Tensor
    parts: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Draws:
    """Counts of what was sampled for an update, with the answers that were not used.

    Attributes:
        rounds: Rounds of sampling, each of the update's prompts; the same in all processes.
        groups: Prompts sampled.
        equal: Prompts whose answers have equal scores.
        unfilled: Prompts in the update whose answers have equal scores.
        score: Sum of the scores.
        scored: Number of these scores.
    """

    rounds: float
    groups: float
    equal: float
    unfilled: float
    score: float
    scored: float

    def tensor(self) -> torch.Tensor:
        """(6,) fp64, for a state on disk."""
        return torch.tensor(
            [self.rounds, self.groups, self.equal, self.unfilled, self.score, self.scored], dtype=torch.float64
        )

    def sums(self, dynamic: bool) -> dict[str, tuple[float, float]]:
        """Name -> (sum, count) of the figures; `dynamic`: with those of the rounds."""
        found = {"frac_reward_zero_std": (self.equal, self.groups)}
        if dynamic:
            found |= {
                "dynamic_sampling/rounds": (self.rounds, 1.0),
                "dynamic_sampling/unfilled": (
                    self.unfilled,
                    1.0 / group.size(),
                ),  # a total: the processes' parts add up to 1
                "dynamic_sampling/scores_of_all": (self.score, self.scored),
            }
        return found


def differing(scores: torch.Tensor, size: int) -> torch.Tensor:
    """(groups,) bool: whether the answers of each `size` in a row have two different scores; NaN is none."""
    grid = scores.view(-1, size)
    known = ~grid.isnan()
    highest = torch.where(known, grid, -torch.inf).amax(1)
    lowest = torch.where(known, grid, torch.inf).amin(1)
    return highest > lowest


def draws_of(rounds: Sequence[torch.Tensor], size: int, unfilled: int) -> Draws:
    """The figures of rounds of scores, all of them."""
    scores = torch.cat(list(rounds))
    equal, known = ~differing(scores, size), scores[~scores.isnan()]
    return Draws(len(rounds), len(equal), int(equal.sum()), unfilled, float(known.sum()), len(known))


def missing(rounds: Sequence[Sampled], size: int) -> int:
    """Number of prompts missing in this process's shard of the update."""
    wanted = len(rounds[0].scores) // size
    return max(0, wanted - sum(int(differing(found.scores, size).sum()) for found in rounds))


def update_of(rounds: Sequence[Sampled], size: int) -> tuple[Sampled, Draws]:
    """As many groups as one round has: first those whose scores differ, in the order of sampling, then others.

    Args:
        rounds: At least one, all of one process.
        size: Answers per prompt.
    """
    whole, wanted = joined(rounds), len(rounds[0].scores) // size
    useful = differing(whole.scores, size)
    order = [*useful.nonzero()[:, 0].tolist(), *(~useful).nonzero()[:, 0].tolist()][:wanted]
    chosen = [group * size + number for group in order for number in range(size)]
    draws = draws_of([found.scores for found in rounds], size, max(0, wanted - int(useful.sum())))
    return chosen_rows(whole, chosen), draws


def joined(rounds: Sequence[Sampled]) -> Sampled:
    """The rounds, concatenated."""
    if len(rounds) == 1:
        return rounds[0]
    all_rollouts = [found.rollouts for found in rounds]
    behaviour = [rollouts.behaviour_logps for rollouts in all_rollouts]
    whole = replace(
        all_rollouts[0],
        prompts=torch.cat([rollouts.prompts for rollouts in all_rollouts]),
        rows=[row for rollouts in all_rollouts for row in rollouts.rows],
        ended=torch.cat([rollouts.ended for rollouts in all_rollouts]),
        behaviour_logps=None
        if behaviour[0] is None
        else torch.cat([found for found in behaviour if found is not None]),
    )
    parts = {name: torch.cat([found.parts[name] for found in rounds]) for name in rounds[0].parts}
    return Sampled(whole, torch.cat([found.scores for found in rounds]), parts)


def chosen_rows(sampled: Sampled, rows: Iterable[int]) -> Sampled:
    """The answers at these positions, in this order."""
    places = torch.tensor(list(rows), dtype=torch.long)
    rollouts = sampled.rollouts
    behaviour = rollouts.behaviour_logps
    if behaviour is not None:
        behaviour = behaviour[chosen_tokens(rollouts.lengths, places)]
    chosen = replace(
        rollouts,
        prompts=rollouts.prompts[places],
        rows=[rollouts.rows[place] for place in places.tolist()],
        ended=rollouts.ended[places],
        behaviour_logps=behaviour,
    )
    return Sampled(chosen, sampled.scores[places], {name: part[places] for name, part in sampled.parts.items()})


def draws_from(tensors: Mapping[str, torch.Tensor]) -> Draws | None:
    """The inverse of `Draws.tensor`, from `draws`; None if a state has none."""
    return Draws(*tensors["draws"].tolist()) if "draws" in tensors else None
