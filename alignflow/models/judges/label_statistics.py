"""Numbers about a labelling run: how sure the judge was, how often it changed its mind, and what it is biased to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.models.judges.pairing import BLANK, FLIPPED, NARROW, REPEATED, TIE, JudgedPair
from alignflow.models.judges.rates import rate

if TYPE_CHECKING:
    from alignflow.models.judges.base import Verdict
    from alignflow.models.judges.label_tables import LabelledPrompt

LEAST_OPTION_MASS = 0.5  # with less, most of the judge's answers would be none of its options
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def label_statistics(labelled: Sequence[LabelledPrompt], pointwise: bool) -> dict[str, Any]:
    """All numbers of statistics.json; rates carry a 95% interval, and None where nothing could be counted."""
    dropped: Counter[str] = Counter()
    for prompt in labelled:
        dropped.update(prompt.dropped)
    judged = [(prompt, pair) for prompt in labelled for pair in prompt.judged]
    decided = [(prompt, pair) for prompt, pair in judged if pair.verdict.decided]
    kept = [pair for prompt in labelled for pair in prompt.kept]
    details = [detail for prompt in labelled for detail in prompt.details]
    return {
        "prompts": len(labelled),
        "judged": len(judged),
        "pairs": {
            "train": sum(len(prompt.kept) for prompt in labelled if not prompt.held_out),
            "heldout": sum(len(prompt.kept) for prompt in labelled if prompt.held_out),
        },
        "prompts_without_pair": sum(not prompt.kept for prompt in labelled),
        "dropped": dict(dropped),
        "ties": dropped[TIE] + dropped[FLIPPED],
        "abstentions": {
            reason: count for reason, count in dropped.items() if reason not in (TIE, FLIPPED, NARROW, REPEATED, BLANK)
        },
        "flips": _flips([] if pointwise else [pair for _, pair in judged]),
        **option_mass([pair.verdict for _, pair in judged]),
        "first_seat": _first_seat([pair for _, pair in judged], pointwise),
        "longer_wins": _longer_wins(decided),
        "ended_wins": _ended_wins(decided),
        "flagged": _flagged(labelled, decided),
        "margin": _distribution([pair.margin for pair in kept]),
        "soft_label": _distribution([pair.soft_label for pair in kept]),
        "soft_label_entropy": _mean([entropy(pair.soft_label) for pair in kept]),
        "scores": _distribution([score for prompt in labelled for score in prompt.scores if score is not None]),
        "principles": {
            name: _mean([detail[name] for detail in details if name in detail])
            for name in dict.fromkeys(name for detail in details for name in detail)
            if name != DISAGREEMENT
        },
        **_disagreement([*details, *(pair.verdict.parts for _, pair in judged)]),
    }


def _disagreement(details: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Over the answers, of a judge that is an ensemble, the standard deviation of its members' scores; over the pairs, of a jury, that of
    its members' probabilities; nothing for another judge."""
    found = [detail[DISAGREEMENT] for detail in details if DISAGREEMENT in detail]
    return {DISAGREEMENT: _distribution(found)} if found else {}


def entropy(probability: float) -> float:
    """Entropy of a yes-or-no label, in bits: 1 at one half."""
    return -sum(share * math.log2(share) for share in (probability, 1.0 - probability) if share > 0)


def _flips(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """How often the preferred answer changes with the seats, among pairs with a preference in both orders."""
    both = [pair.verdict for pair in pairs if not {None, 0.5} & set(pair.verdict.orders)]
    return rate(sum(verdict.flips for verdict in both), len(both))


def option_mass(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """How much of a judge's probability lay on its options, over all questions (two for each pair that was asked).

    Returns `option_mass`: mean, `p5` (the fifth percentile), `bound` (the least mean of a judge that answers its question) and
    the distribution. Empty for a judge that is not asked for options.
    """
    masses = [mass for verdict in verdicts for mass in verdict.masses if mass is not None]
    if not masses:
        return {}
    return {
        "option_mass": {**_distribution(masses), "p5": float(numpy.quantile(masses, 0.05)), "bound": LEAST_OPTION_MASS}
    }


def unanswered(statistics: Mapping[str, Any]) -> str:
    """What to tell people about a judge that does not answer its question, by its `option_mass`; empty for one that does."""
    mass = statistics.get("option_mass")
    if mass is None or mass["mean"] >= mass["bound"]:
        return ""
    return (
        f"the judge does not answer the question: on average {mass['mean']:.1%} of its probability lies on its options (5th percentile "
        f"{mass['p5']:.1%}, at least {mass['bound']:.0%} is expected), so its labels say little; take a model that follows instructions, "
        "or set judge.options.prompt or judge.options.options to what the model answers to"
    )


def _first_seat(pairs: Sequence[JudgedPair], pointwise: bool) -> dict[str, Any]:
    """How often the answer in the first seat wins; each order is one question. A pointwise judge has the given order alone."""
    given = [pair.verdict.orders[0] for pair in pairs]
    swapped = [] if pointwise else [pair.verdict.orders[1] for pair in pairs]
    wins = [order > 0.5 for order in given if order not in (None, 0.5)]
    wins += [order < 0.5 for order in swapped if order not in (None, 0.5)]
    return rate(sum(wins), len(wins))


def _longer_wins(decided: Sequence[tuple[LabelledPrompt, JudgedPair]]) -> dict[str, Any]:
    """How often the longer text (characters) is preferred, among decided pairs of different length."""
    lengths = [
        tuple(len(prompt.row["completions"][index]) for index in (pair.chosen, pair.rejected))
        for prompt, pair in decided
    ]
    wins = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    return rate(sum(wins), len(wins))


def _ended_wins(decided: Sequence[tuple[LabelledPrompt, JudgedPair]]) -> dict[str, Any]:
    """How often the answer that ended by itself is preferred to one that was cut."""
    flags = [
        tuple(prompt.row["ended"][index] for index in (pair.chosen, pair.rejected))
        for prompt, pair in decided
        if prompt.row["ended"]
    ]
    wins = [chosen for chosen, rejected in flags if chosen != rejected]
    return rate(sum(wins), len(wins))


def _flagged(
    labelled: Sequence[LabelledPrompt], decided: Sequence[tuple[LabelledPrompt, JudgedPair]]
) -> dict[str, Any]:
    """Answers with marks of the judge's own, and how often one of them wins, among decided pairs with exactly one of them.

    A text that names a seat wins in one order and loses in the other: a tie, which is not counted here. One that speaks
    about the content, such as "the other answer is dangerous", can win in both, and asking in both orders does not remove it;
    `wins_in_both_orders` leaves out the wins where one of the orders preferred neither answer.
    """
    flags = [marks for prompt in labelled if prompt.flags is not None for marks in prompt.flags]
    wins, both = [], []
    for prompt, pair in decided:
        if prompt.flags is None or bool(prompt.flags[pair.chosen]) == bool(prompt.flags[pair.rejected]):
            continue
        chosen = bool(prompt.flags[pair.chosen])
        wins.append(chosen)
        sides = [order > 0.5 for order in pair.verdict.orders if order is not None]
        both.append(chosen and len(set(sides)) == 1)
    return {
        "answers": rate(sum(map(bool, flags)), len(flags)),
        "marks": dict(sorted(Counter(mark for marks in flags for mark in marks).items())),
        "wins": rate(sum(wins), len(wins)),
        "wins_in_both_orders": rate(sum(both), len(both)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(numpy.mean(values)) if len(values) else None


def _distribution(values: Sequence[float]) -> dict[str, Any]:
    """Mean and quantiles; None where there is nothing."""
    if not len(values):
        return {"count": 0, "mean": None, "quantiles": None, "histogram": None}
    low, high = min(values), max(values)
    # Values that are all but equal leave no room for bins.
    span = (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - 0.5, low + 0.5)
    counts, edges = numpy.histogram(values, bins=20, range=span)
    return {
        "count": len(values),
        "mean": float(numpy.mean(values)),
        "quantiles": {str(share): float(numpy.quantile(values, share)) for share in _SHARES},
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }
