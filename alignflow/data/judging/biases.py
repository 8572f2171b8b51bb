"""What moves a judge that should not: the seat, the length, who wrote the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from alignflow.data.intervals import rate
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.resampling import Positions, interval

LEAST_OPTION_MASS = 0.5  # with less, most of the judge's answers would be none of its options
PRIOR = 10.0
"""Standard deviation of the normal prior of a coefficient, which keeps it finite where the judge's choices are separated exactly."""
TWICE = 1 / 3
"""(l1 - l2) / (l1 + l2) of an answer that is twice as long as the other one."""
Numbers = NDArray[numpy.float64]


def flips(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How often the preferred answer changes with the seats, among pairs with a preference in both orders."""
    both = [outcome for outcome in outcomes if not {None, 0.5} & set(outcome.orders)]
    return rate(sum(outcome.flips for outcome in both), len(both))


def first_position(outcomes: Sequence[Outcome], pointwise: bool = False) -> dict[str, Any]:
    """How often the answer in the first seat wins; each order is one question. A pointwise judge has the given order alone."""
    given = [outcome.orders[0] for outcome in outcomes]
    swapped = [] if pointwise else [outcome.orders[1] for outcome in outcomes]
    wins = [order > 0.5 for order in given if order not in (None, 0.5)]
    wins += [order < 0.5 for order in swapped if order not in (None, 0.5)]
    return rate(sum(wins), len(wins))


def longer_wins(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How often the longer answer (characters) is preferred, among decided pairs of different length."""
    wins = [
        (outcome.choice == 1.0) == (outcome.lengths[0] > outcome.lengths[1])
        for outcome in outcomes
        if outcome.decided and outcome.lengths[0] != outcome.lengths[1]
    ]
    return rate(sum(wins), len(wins))


def length_effect(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """What length does at matched quality: where people see a tie, how likely the judge prefers the answer that is twice as long.

    A logistic regression without intercept, since sides have no meaning: logit P(judge prefers first) = b * gold + c * length, with gold 1, 0
    or -1 as people prefer the first, neither or the second, and length (l1 - l2) / (l1 + l2). `twice_as_long` is sigmoid(c / 3); its
    interval resamples prompts. Ties and flips of the judge count one half. None without gold labels.

    Returns:
        `gold` and `length`, the coefficients b and c, and `twice_as_long`. `people_longer` is how often people prefer the longer answer,
        and `at_gold_ties` the longer answer's rate among pairs that people call a tie.
    """
    used = [
        outcome
        for outcome in outcomes
        if outcome.gold is not None and outcome.choice is not None and any(outcome.lengths)
    ]
    if not used:
        return None
    gold = numpy.asarray([2 * outcome.gold - 1 for outcome in used])  # type: ignore[operator]
    lengths = numpy.asarray([_relative(*outcome.lengths) for outcome in used])
    inputs, chosen = numpy.stack([gold, lengths], axis=1), numpy.asarray([outcome.choice for outcome in used], float)
    coefficients = logistic(inputs, chosen)

    def twice(places: Positions) -> float:
        return float(1 / (1 + numpy.exp(-logistic(inputs[places], chosen[places])[1] * TWICE)))

    return {
        "gold": float(coefficients[0]),
        "length": float(coefficients[1]),
        "twice_as_long": interval([outcome.row for outcome in used], twice, resamples=300),
        "people_longer": _people_longer(used),
        "at_gold_ties": longer_wins([outcome for outcome in used if outcome.gold == 0.5]),
    }


def logistic(inputs: Numbers, targets: Numbers) -> Numbers:
    """Coefficients of a logistic regression without intercept, by Newton's method, under a normal prior of standard deviation PRIOR.

    Args:
        inputs: [pairs, features].
        targets: [pairs], from 0 to 1.

    Returns:
        [features].
    """
    weights = numpy.zeros(inputs.shape[1])
    for _ in range(50):
        fitted = 1 / (1 + numpy.exp(-inputs @ weights))
        slope = inputs.T @ (targets - fitted) - weights / PRIOR**2
        curvature = (inputs * (fitted * (1 - fitted))[:, None]).T @ inputs + numpy.eye(len(weights)) / PRIOR**2
        step = numpy.linalg.solve(curvature, slope)
        weights = weights + step * min(1.0, 5 / max(numpy.abs(step).max(), 1e-12))  # a long step would overshoot
        if numpy.abs(step).max() < 1e-8:
            break
    return weights


def self_preference(outcomes: Sequence[Outcome], family: str) -> dict[str, Any] | None:
    """Whether a judge prefers its own family's answers more than people do; None where no pair has exactly one of them.

    A writer is of the family where its name contains it. `judge` and `people` are the shares of such pairs that the own answer wins, ties
    half; `excess` is their difference over the pairs with both, with a bootstrap interval.
    """
    if not family:
        return None
    owned = [(outcome, _owns(outcome, family)) for outcome in outcomes if outcome.choice is not None]
    pairs = [(outcome, own) for outcome, own in owned if own is not None]
    if not pairs:
        return None
    with_gold = [(outcome, own) for outcome, own in pairs if outcome.gold is not None]
    gaps = numpy.asarray([_won(outcome.choice, own) - _won(outcome.gold, own) for outcome, own in with_gold])
    return {
        "family": family,
        "judge": rate(sum(_won(outcome.choice, own) for outcome, own in pairs), len(pairs)),
        "people": rate(sum(_won(outcome.gold, own) for outcome, own in with_gold), len(with_gold)),
        "excess": interval([outcome.row for outcome, _ in with_gold], lambda places: float(gaps[places].mean())),
    }


def option_mass(masses: Sequence[float | None]) -> dict[str, Any] | None:
    """How much of a judge's probability lay on its options, over all questions (two for each pair that was asked).

    Returns:
        `mean`, `p5` (the fifth percentile), `count` and `bound`, the least mean of a judge that answers its question; None for a judge that
        is not asked for options.
    """
    found = [mass for mass in masses if mass is not None]
    if not found:
        return None
    p5 = float(numpy.quantile(found, 0.05))
    return {"mean": float(numpy.mean(found)), "p5": p5, "count": len(found), "bound": LEAST_OPTION_MASS}


def unanswered(mass: dict[str, Any] | None) -> str:
    """What to tell people about a judge that does not answer its question, by its option mass; empty for one that does."""
    if mass is None or mass["mean"] >= mass["bound"]:
        return ""
    return (
        f"the judge does not answer the question: on average {mass['mean']:.1%} of its probability lies on its options (5th percentile "
        f"{mass['p5']:.1%}, at least {mass['bound']:.0%} is expected), so its labels say little; take a model that follows instructions, "
        "or set judge.options.prompt or judge.options.options to what the model answers to"
    )


def _relative(first: int, second: int) -> float:
    return (first - second) / (first + second)


def _people_longer(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    wins = [
        (outcome.gold == 1.0) == (outcome.lengths[0] > outcome.lengths[1])
        for outcome in outcomes
        if outcome.gold != 0.5 and outcome.lengths[0] != outcome.lengths[1]
    ]
    return rate(sum(wins), len(wins))


def _owns(outcome: Outcome, family: str) -> bool | None:
    """Whether the first answer is the family's own one; None where neither is, or both are, or a writer is not known."""
    first, second = (family.lower() in name.lower() for name in outcome.families)
    return first if all(outcome.families) and first != second else None


def _won(choice: float | None, first: bool) -> float:
    assert choice is not None
    return choice if first else 1.0 - choice
