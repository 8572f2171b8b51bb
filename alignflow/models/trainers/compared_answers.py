"""Compared answers of an update, and the pairs to train on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from alignflow.models.judges.base import IDENTICAL
from alignflow.models.judges.blanks import is_blank
from alignflow.models.judges.comparing import UNLABELLED, Comparison, Pair, selected
from alignflow.models.judges.pairing import BLANK, FLIPPED, TIE
from alignflow.models.rollouts import Rollouts

CONTRADICTED = "win rate and verdict differ"
REASONS = ("", TIE, FLIPPED, IDENTICAL, UNLABELLED, BLANK, CONTRADICTED)
"""Why a pair is not trained on, by number; empty: it is trained on."""


@dataclass(frozen=True)
class ComparedAnswers:
    """The answers of an update in one process with the models' statistics of them; no gradients.

    Attributes:
        rollouts: The policy's answers, then the opponent's if it is another model.
        own: How many are the policy's.
        logps: (N,) fp32 of all answers' tokens, by the policy that sampled.
        ref_logps: (N,) fp32, by the reference.
        entropy: (N,) fp32, of the policy's distribution at each token, nats.
        pairs: (pairs, 2) int64: positions of the two answers of each pair; for ordered methods the better one first.
        log_odds: (pairs,) fp64 of P(first beats second), NaN if there are none.
        reason: (pairs,) int64: place in REASONS.
        scores: Name -> (answers,) fp64, NaN if there is none; `heldout_judge` among them, with NaN for the opponent's.
    """

    rollouts: Rollouts
    own: int
    logps: torch.Tensor
    ref_logps: torch.Tensor
    entropy: torch.Tensor
    pairs: torch.Tensor
    log_odds: torch.Tensor
    reason: torch.Tensor
    scores: dict[str, torch.Tensor]

    @property
    def kept(self) -> list[int]:
        """Pairs to train on."""
        found: list[int] = (self.reason == 0).nonzero()[:, 0].tolist()
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything as tensors, for a state on disk."""
        names = ("logps", "ref_logps", "entropy", "pairs", "log_odds", "reason")
        return {
            **self.rollouts.tensors(),
            **{name: getattr(self, name) for name in names},
            "own": torch.tensor(self.own),
            **{f"score/{name}": values for name, values in self.scores.items()},
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor], names: Sequence[str]) -> ComparedAnswers:
        """What `tensors` described; `names`: the scores, in their order."""
        return ComparedAnswers(
            Rollouts.from_tensors(tensors),
            int(tensors["own"]),
            tensors["logps"],
            tensors["ref_logps"],
            tensors["entropy"],
            tensors["pairs"],
            tensors["log_odds"],
            tensors["reason"],
            {name: tensors[f"score/{name}"] for name in names},
        )


def joined(own: Rollouts, other: Rollouts | None) -> Rollouts:
    """The answers of both, the policy's first. Behaviour log-probabilities of the opponent's tokens are NaN: the policy did not draw them."""
    if other is None:
        return own
    behaviour = own.behaviour_logps
    if behaviour is not None:
        behaviour = torch.cat([behaviour, behaviour.new_full((int(other.lengths.sum()),), float("nan"))])
    return Rollouts(
        torch.cat([own.prompts, other.prompts]),
        [*own.rows, *other.rows],
        torch.cat([own.ended, other.ended]),
        behaviour,
        own.figures,
    )


def planned(own: int, answers: int, num_generations: int) -> list[Pair]:
    """Pairs to compare: each own answer with the opponent's to the same prompt, or all own answers to a prompt with each other."""
    if answers > own:
        return [(place, own + place) for place in range(own)]
    starts = range(0, own, num_generations)
    return [pair for start in starts for pair in itertools.combinations(range(start, start + num_generations), 2)]


def ordered_pairs(
    comparison: Comparison, pairs: Sequence[Pair], texts: Sequence[str], per_prompt: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One pair of each prompt, better answer first: `pairs`, `log_odds` and `reason` of `ComparedAnswers`.

    Args:
        comparison: The result for all `pairs`.
        pairs: Pairs of one prompt are adjacent.
        texts: Texts of all answers: a blank one may be the worse answer and never the better one.
        per_prompt: Pairs of each prompt. With more than one, the highest mean win rate is paired with the lowest, with the judge's verdict on these two.
    """
    chosen, odds, reasons = [], [], []
    winners = selected(torch.tensor(comparison.log_odds, dtype=torch.float64))[0].tolist()
    for start in range(0, len(pairs), per_prompt):
        place = _widest(pairs, comparison.log_odds, range(start, start + per_prompt))
        (first, second), value, reason = pairs[place[0]], comparison.log_odds[place[0]], comparison.reasons[place[0]]
        if place[1]:
            first, second, value = second, first, -value
        if per_prompt == 1 and winners[start]:
            first, second, value = second, first, -value
        elif not reason and value < 0:
            reason = CONTRADICTED
        if not reason and is_blank(texts[first]):
            reason = BLANK
        chosen.append((first, second))
        odds.append(value)
        reasons.append(REASONS.index(reason))
    return (
        torch.tensor(chosen, dtype=torch.long).view(-1, 2),
        torch.tensor(odds, dtype=torch.float64),
        torch.tensor(reasons, dtype=torch.long),
    )


def _widest(pairs: Sequence[Pair], log_odds: Sequence[float], places: range) -> tuple[int, bool]:
    """Place of the pair of the answers with the highest and the lowest mean win rate, and whether its order is reversed."""
    if len(places) == 1:
        return places[0], False
    wins: dict[int, list[float]] = {}
    for place in places:
        if not math.isnan(log_odds[place]):
            probability = float(torch.tensor(log_odds[place], dtype=torch.float64).sigmoid())
            wins.setdefault(pairs[place][0], []).append(probability)
            wins.setdefault(pairs[place][1], []).append(1 - probability)
    if not wins:
        return places[0], False
    rates = {answer: math.fsum(values) / len(values) for answer, values in sorted(wins.items())}
    best = max(rates, key=lambda answer: (rates[answer], -answer))
    worst = min((answer for answer in rates if answer != best), key=lambda answer: (rates[answer], answer))
    turned = best > worst
    wanted = (worst, best) if turned else (best, worst)
    return next(place for place in places if pairs[place] == wanted), turned


def duels(comparison: Comparison, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pairs as they are for methods that learn from P(own beats other): a tie is one half and is trained on; a pair without a verdict is not."""
    odds = torch.tensor(comparison.log_odds, dtype=torch.float64)
    reason = torch.where(odds.isnan(), REASONS.index(UNLABELLED), 0)
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2), odds, reason
