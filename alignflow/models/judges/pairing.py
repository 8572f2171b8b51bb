"""Which of a prompt's candidates are compared, and which of the judged pairs become preferences."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

from alignflow.data.artifacts import text_digest
from alignflow.data.records import is_held_out, prompt_digest, up_to_question
from alignflow.models.judges.base import Verdict

TIE = "tie"
FLIPPED = "changes with the order"
BLANK = "blank answer preferred"
NARROW = "narrow margin"
REPEATED = "repeated pair"


@dataclass(frozen=True)
class JudgedPair:
    """A pair of one prompt's candidates, by their positions, with the verdict."""

    first: int
    second: int
    verdict: Verdict
    raw: Verdict | None = None  # the judge's own verdict, if `verdict` is calibrated

    @property
    def chosen(self) -> int:
        """Position of the better candidate."""
        return self.first if self.probability > 0.5 else self.second

    @property
    def rejected(self) -> int:
        """Position of the worse candidate."""
        return self.second if self.probability > 0.5 else self.first

    @property
    def probability(self) -> float:
        """P(first is better); only for a pair with a label."""
        if self.verdict.probability is None:
            raise ValueError(f"a pair without a label: {self.verdict.reason}")
        return self.verdict.probability

    @property
    def soft_label(self) -> float:
        """P(chosen is better), from 0.5 to 1."""
        return max(self.probability, 1.0 - self.probability)

    @property
    def margin(self) -> float:
        """Score difference of a pointwise judge, otherwise |2p - 1|."""
        first, second = self.verdict.scores
        return abs(first - second) if first is not None and second is not None else abs(2.0 * self.probability - 1.0)


def all_pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of `count` candidates."""
    return list(itertools.combinations(range(count), 2))


def planned_pairs(count: int, seed: int, identity: str, all_up_to: int = 4) -> list[tuple[int, int]]:
    """Pairs to ask a pairwise judge: all of up to `all_up_to` candidates, otherwise a ring with chords drawn by the row's seed.

    The plan is a fixed function of its arguments: 2 * count pairs in which each candidate meets four others.
    """
    if count <= max(all_up_to, 4):
        return all_pairs(count)
    order = list(range(count))
    random.Random(f"{seed}/{identity}").shuffle(order)
    met = {
        (min(one, other), max(one, other))
        for step in (1, 2)
        for one, other in ((order[index], order[(index + step) % count]) for index in range(count))
    }
    return sorted(met)


def kept_pairs(
    pairs: Sequence[JudgedPair], answers: Sequence[Hashable], limit: int, min_margin: float, blank: Collection[int] = ()
) -> tuple[list[JudgedPair], dict[str, int]]:
    """The `limit` pairs with the widest margin, and, by reason, how many were dropped.

    A tie (exactly one half, or a preference that changes with the order) and a pair nearer to one half than `min_margin`
    are no preference; a pair without a label counts under its verdict's reason. Of pairs of equal `answers` (two samples
    may be the same) one is kept. A `blank` answer (its position) may be the worse one and never the better one:
    a policy that is trained on such a pair learns to say nothing.
    """
    dropped: dict[str, int] = {}
    good: dict[Hashable, JudgedPair] = {}
    for pair in pairs:
        reason = _reason(pair.verdict, min_margin)
        if not reason and pair.chosen in blank:
            reason = BLANK
        if not reason and (answers[pair.chosen], answers[pair.rejected]) in good:
            reason = REPEATED
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            good[answers[pair.chosen], answers[pair.rejected]] = pair
    widest = sorted(good.values(), key=lambda pair: (-pair.margin, pair.first, pair.second))
    return widest[:limit], dropped


def _reason(verdict: Verdict, min_margin: float) -> str:
    if verdict.probability is None:
        return verdict.reason or "no label"
    if verdict.flips:
        return FLIPPED
    if verdict.probability == 0.5:
        return TIE
    return NARROW if abs(verdict.probability - 0.5) < min_margin else ""


def is_label_held_out(prompt: Sequence[dict[str, str]], fraction: float) -> bool:
    """Whether a prompt's pairs are held out from training on preferences: a fixed function of its normalised text up to its last user turn.

    The prompts to sample from already exclude the held-out set of `is_held_out`, so a second, independent hash splits
    them. Prompts of that held-out set (in the user's completions) are held out here too, since evaluation uses them.
    """
    second = int(text_digest(f"preferences/{prompt_digest(up_to_question(prompt))}")[:12], 16) / 16**12
    return second < fraction or is_held_out(prompt, fraction)
