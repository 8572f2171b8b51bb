"""How far a judge says what people say: accuracy, three-way accuracy, Cohen's kappa, each with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from alignflow.data.agreement import cohen_kappa
from alignflow.data.intervals import rate
from alignflow.data.judging.outcomes import Outcome, side
from alignflow.data.judging.resampling import interval

NAMES = {1.0: "first", 0.0: "second", 0.5: "tie", None: "no label"}


def agreement(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """All figures of agreement with gold labels; None where no pair has one.

    `accuracy` is over pairs of which people prefer one answer; a tie of the judge, a flip and a missing label count one half, as a coin would
    get: a judge cannot look better by not answering. `accuracy_decided` is over those that the judge decided. `given`, `swapped` and
    `both_orders` are over the same pairs order by order, where an order without a preference is wrong. `three_way` and `kappa` are over
    all pairs with a gold and a judge's label, ties included.
    """
    gold = [outcome for outcome in outcomes if outcome.gold is not None]
    if not gold:
        return None
    preferred = [outcome for outcome in gold if outcome.gold != 0.5]
    decided = [outcome for outcome in preferred if outcome.decided]
    labelled = [outcome for outcome in gold if outcome.choice is not None]
    said, meant = [outcome.choice for outcome in labelled], [outcome.gold for outcome in labelled]
    return {
        "gold": len(gold),
        "gold_ties": len(gold) - len(preferred),
        "accuracy": rate(sum(map(_points, preferred)), len(preferred)),
        "accuracy_decided": rate(sum(outcome.choice == outcome.gold for outcome in decided), len(decided)),
        "orders": order_agreement(preferred),
        "three_way": rate(sum(one == other for one, other in zip(said, meant, strict=True)), len(labelled)),
        "kappa": interval(
            [outcome.row for outcome in labelled],
            lambda places: cohen_kappa([(said[place], meant[place]) for place in places]),
        ),
        "confusion": _confusion(gold),
    }


def order_agreement(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Agreement of each order by itself; `same` is how often both say the same, both without a preference included."""
    sides = [tuple(None if order is None else side(order) for order in outcome.orders) for outcome in outcomes]
    golds = [outcome.gold for outcome in outcomes]
    right = [tuple(one == gold for one in pair) for pair, gold in zip(sides, golds, strict=True)]
    return {
        "given": rate(sum(pair[0] for pair in right), len(right)),
        "swapped": rate(sum(pair[1] for pair in right), len(right)),
        "both_orders": rate(sum(map(all, right)), len(right)),
        "same": rate(sum(one == other for one, other in sides), len(sides)),
        "kappa_of_orders": cohen_kappa([(one, other) for one, other in sides]),
    }


def _points(outcome: Outcome) -> float:
    return float(outcome.choice == outcome.gold) if outcome.decided else 0.5


def _confusion(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Gold label -> the judge's -> pairs."""
    found = Counter((outcome.gold, outcome.choice) for outcome in outcomes)
    return {
        NAMES[gold]: {NAMES[choice]: found[gold, choice] for choice in (1.0, 0.5, 0.0, None)}
        for gold in (1.0, 0.5, 0.0)
    }
