"""Comparisons of answers within a training: by a judge, or by scores. The result is log-odds, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from alignflow.models.judges.base import IDENTICAL, Candidate, Judge
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.pairing import FLIPPED, TIE
from alignflow.models.rewards.sources import Episode, WeightedRewards, finite

UNLABELLED = "no label"
CERTAIN = 1e-6
"""A judge's probability is clipped to this distance from 0 and 1 if a penalty is subtracted from its log-odds, which could be infinite."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Results of comparing pairs of answers.

    Attributes:
        log_odds: Log-odds of P(first beats second), for each pair; 0 is a tie, NaN means none.
        reasons: Why a pair is a tie or has no log-odds: TIE, FLIPPED, IDENTICAL, UNLABELLED; empty if one is preferred.
        scores: Scores of each answer by name of their source; `score` is the compared one. Empty for a judge without scores.
    """

    log_odds: list[float]
    reasons: list[str]
    scores: dict[str, list[float | None]] = field(default_factory=dict)


class Comparer(Protocol):
    """Compares answers.

    Attributes:
        names: Its name in logs.
    """

    names: list[str]

    def compare(self, episodes: Sequence[Episode], pairs: Sequence[Pair]) -> Comparison:
        """Compare pairs of positions in `episodes`."""

    def close(self) -> None:
        """Free models."""


class JudgeComparer:
    """A judge, asked in both orders if its verdict depends on the position; a verdict that changes with the order is a tie."""

    def __init__(self, judge: Judge, name: str):
        self._judge, self.names = judge, [name]

    def compare(self, episodes: Sequence[Episode], pairs: Sequence[Pair]) -> Comparison:
        """Log-odds of the verdicts, and the scores if the judge is pointwise."""
        candidates = [
            Candidate(episode.row["prompt"], episode.text, episode.ended, episode.row.get("reference") or "")
            for episode in episodes
        ]
        verdicts = self._judge.compare([(candidates[first], candidates[second]) for first, second in pairs])
        log_odds, reasons = [], []
        scores: list[float | None] = [None] * len(episodes)
        for (first, second), verdict in zip(pairs, verdicts, strict=True):
            if verdict.probability is None:
                reasons.append(IDENTICAL if verdict.reason == IDENTICAL else UNLABELLED)
                log_odds.append(0.0 if verdict.reason == IDENTICAL else math.nan)
            else:
                reasons.append(FLIPPED if verdict.flips else "")
                log_odds.append(0.0 if verdict.flips else logit(verdict.probability))
            scores[first], scores[second] = (finite(score) for score in verdict.scores)
        return Comparison(log_odds, reasons, {"score": scores} if self._judge.pointwise else {})

    def close(self) -> None:
        """Free the judge's models."""
        self._judge.close()


class ScoreComparer:
    """Scores, whose difference is the log-odds (Bradley and Terry 1952)."""

    def __init__(self, rewards: WeightedRewards):
        self._rewards, self.names = rewards, rewards.names

    def compare(self, episodes: Sequence[Episode], pairs: Sequence[Pair]) -> Comparison:
        """Differences of the weighted sums; NaN if an answer has none."""
        parts = self._rewards.score(episodes)
        scores = self._rewards.combine(parts)
        log_odds, reasons = [], []
        for one, other in ((scores[first], scores[second]) for first, second in pairs):
            log_odds.append(math.nan if one is None or other is None else one - other)
            reasons.append(UNLABELLED if one is None or other is None else "")
        return Comparison(
            log_odds, reasons, {"score": scores, **{f"scores/{name}": part for name, part in parts.items()}}
        )

    def close(self) -> None:
        """Free the sources' models."""
        self._rewards.close()


def compared(
    comparer: Comparer, episodes: Sequence[Episode], pairs: Sequence[Pair], missing_eos_penalty: float | None
) -> Comparison:
    """The result of a comparer, with equal answers as ties and minus the penalty of answers that were cut.

    The penalty is subtracted from the log-odds, which for scores means from the score. Of two equal texts of which one was cut, the one
    that ended wins if there is a penalty.
    """
    found = comparer.compare(episodes, pairs)
    log_odds, reasons = [], []
    for (first, second), value, reason in zip(pairs, found.log_odds, found.reasons, strict=True):
        if same_answer(episodes[first].text, episodes[second].text):
            value, reason = 0.0, IDENTICAL
        handicap = (episodes[second].ended - episodes[first].ended) * (missing_eos_penalty or 0.0)
        if handicap and not math.isnan(value):
            limit = logit(1 - CERTAIN)
            value = (min(max(value, -limit), limit) if math.isinf(value) else value) - handicap
            reason = ""
        log_odds.append(value)
        reasons.append(reason or (TIE if value == 0 else ""))
    return replace(found, log_odds=log_odds, reasons=reasons)


def logit(probability: float) -> float:
    """log(p / (1 - p)), infinite at 0 and 1."""
    if probability in (0.0, 1.0):
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability) - math.log1p(-probability)


def selected(log_odds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which answer of each pair is better, (pairs,) int64 0 or 1, and whether one is, (pairs,) bool: False for a tie or without log-odds."""
    return (log_odds < 0).long(), (log_odds != 0) & ~log_odds.isnan()
