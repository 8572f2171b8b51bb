"""Temperature and position bias of a judge, fitted on human labels and measured on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy
from numpy.typing import NDArray
from scipy.optimize import minimize

from alignflow.data.artifacts import text_digest
from alignflow.data.judging.outcomes import Outcome, flipped, settled
from alignflow.data.judging.probabilities import calibration_figures, log_loss
from alignflow.data.judging.resampling import interval

LEAST_FIT, LEAST_MEASURED = 50, 50
"""Human preferences without which nothing is fitted, and without which a fit cannot be measured."""
LARGEST_SLOPE, LARGEST_BIAS = 10.0, 20.0
SMALLEST = 1e-9
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""
Numbers = NDArray[numpy.float64]


@dataclass(frozen=True)
class Calibration:
    """logit P(first seat wins), as the judge says it, = (what it should say) / slope + bias; solved for what it should say.

    For each order, with o the probability that the first answer is better: given: sigmoid(slope * (logit o - bias)); swapped:
    sigmoid(slope * (logit o + bias)), since the first answer sits in the second seat there. The label is the mean of both, as without
    calibration. A slope of 0 says that the judge knows nothing: every label becomes one half.

    Attributes:
        slope: One over the temperature (Guo et al. 2017, arXiv 1706.04599, section 4.2); 0 to 10.
        bias: What the first seat adds to the logit; 0 for a judge that knows no seats.
    """

    slope: float
    bias: float

    def orders(self, given: float | None, swapped: float | None) -> tuple[float | None, float | None]:
        """Both orders, calibrated; an order that is missing stays so."""
        return self._calibrated(given, -self.bias), self._calibrated(swapped, self.bias)

    def of(self, outcome: Outcome) -> Outcome:
        """The outcome with calibrated orders and label; one without a label, or without orders, stays as it is."""
        if outcome.probability is None or None in outcome.orders:
            return outcome
        given, swapped = self.orders(*outcome.orders)
        assert given is not None and swapped is not None
        return replace(outcome, orders=(given, swapped), probability=settled((given + swapped) / 2))

    def _calibrated(self, order: float | None, shift: float) -> float | None:
        if order is None:
            return None
        kept = min(1 - SMALLEST, max(SMALLEST, order))
        return float(1 / (1 + numpy.exp(-self.slope * (numpy.log(kept / (1 - kept)) + shift))))


def fitted_calibration(outcomes: Sequence[Outcome], pointwise: bool, fit_fraction: float = 0.5) -> dict[str, Any]:
    """Fit on one part of the prompts and measure on the other; a fixed hash of the prompt decides.

    Only pairs that people prefer one answer of, and that the judge labelled, are used.

    Returns:
        `used` (whether labels are to be calibrated by it), `why` (in a sentence), `slope` and `bias` (None where nothing was fitted), counts
        of both parts, and `before` and `after` on the measured part: calibration figures, and how many pairs become labels, are right, and
        change their preferred answer. `gain` is the fall of the log loss (nats), `points` the rise of accuracy (ties half), each with its
        bootstrap interval: the fit is used where one of them is above 0 and the other one is not below 0.
    """
    usable = [
        outcome
        for outcome in outcomes
        if outcome.gold in (0.0, 1.0) and outcome.probability is not None and None not in outcome.orders
    ]
    fit = [outcome for outcome in usable if fits(outcome.row, fit_fraction)]
    measured = [outcome for outcome in usable if not fits(outcome.row, fit_fraction)]
    counts = {"fitted_on": len(fit), "measured_on": len(measured), "pointwise": pointwise}
    if len(fit) < LEAST_FIT or len(measured) < LEAST_MEASURED:
        why = (
            f"{len(fit)} labelled pairs with a human preference to fit on and {len(measured)} to measure on are too few: at least "
            f"{LEAST_FIT} and {LEAST_MEASURED} are needed"
        )
        return {"used": False, "why": why, "slope": None, "bias": None, **counts}
    found = fit_calibration(fit, pointwise)
    after = [found.of(outcome) for outcome in measured]
    gain = _change(measured, [one - other for one, other in zip(_losses(measured), _losses(after), strict=True)])
    points = _change(measured, [other - one for one, other in zip(_points(measured), _points(after), strict=True)])
    used = any(_sure(part, 1) for part in (gain, points)) and not any(_sure(part, -1) for part in (gain, points))
    change = (
        f"on {len(measured)} other labels the log loss changes by {-gain['value']:+.3f} nats [{-gain['high']:+.3f}, {-gain['low']:+.3f}] "
        f"and the accuracy by {points['value']:+.3f} [{points['low']:+.3f}, {points['high']:+.3f}]"
    )
    why = f"it helps: {change}" if used else f"it does not help: {change}; the judge's own probabilities are used"
    return {
        "used": used,
        "why": why,
        **asdict(found),
        **counts,
        "gain": gain,
        "points": points,
        "before": _measures(measured),
        "after": _measures(after),
        "changed": sum(one.choice != other.choice for one, other in zip(measured, after, strict=True)),
    }


def fit_calibration(outcomes: Sequence[Outcome], pointwise: bool) -> Calibration:
    """Slope and bias with the smallest log loss of the mean of both orders, by L-BFGS-B from several starts."""
    orders = numpy.asarray([outcome.orders for outcome in outcomes], float)
    gold = numpy.asarray([outcome.gold for outcome in outcomes], float)
    kept = numpy.clip(orders, SMALLEST, 1 - SMALLEST)
    logits = numpy.log(kept) - numpy.log1p(-kept)

    def loss(parameters: Numbers) -> float:
        slope, bias = parameters
        sides = 1 / (1 + numpy.exp(-slope * (logits + numpy.asarray([-bias, bias]))))
        return log_loss(sides.mean(axis=1), gold)

    seat = float(numpy.median(logits[:, 0] - logits[:, 1]) / 2)  # what both orders add to the first seat
    largest = 0.0 if pointwise else LARGEST_BIAS
    starts = [(slope, bias) for slope in (0.1, 0.5, 1.0) for bias in (0.0, min(largest, max(-largest, seat)))]
    bounds = [(0.0, LARGEST_SLOPE), (-largest, largest)]
    tries = [minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(tries, key=lambda found: float(found.fun))
    return Calibration(float(best.x[0]), float(best.x[1]))


def fits(row: str, fraction: float) -> bool:
    """Whether a prompt's pairs are fitted on, and not measured: a fixed function of its id."""
    return int(text_digest(f"calibration/{row}")[:12], 16) / 16**12 < fraction


def _measures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    figures = calibration_figures(
        [outcome.probability for outcome in outcomes if outcome.probability is not None],
        [outcome.gold for outcome in outcomes if outcome.gold is not None],
        [outcome.row for outcome in outcomes],
    )
    decided = [outcome for outcome in outcomes if outcome.decided]
    return {
        **(figures or {}),
        "decided": len(decided),
        "decided_right": sum(outcome.choice == outcome.gold for outcome in decided),
        "flips": sum(flipped(outcome.orders) for outcome in outcomes),
    }


def _change(outcomes: Sequence[Outcome], gaps: Sequence[float]) -> dict[str, Any]:
    """The mean of a difference over pairs, with a bootstrap interval over prompts."""
    found = numpy.asarray(gaps)
    return interval([outcome.row for outcome in outcomes], lambda places: float(found[places].mean()))


def _sure(part: dict[str, Any], sign: int) -> bool:
    """Whether the whole interval is above 0 (sign 1), or below (sign -1)."""
    return part["low"] is not None and min(sign * part["low"], sign * part["high"]) > 0


def _losses(outcomes: Sequence[Outcome]) -> list[float]:
    pairs = [
        (numpy.asarray([outcome.probability], float), numpy.asarray([outcome.gold], float)) for outcome in outcomes
    ]
    return [log_loss(*pair) for pair in pairs]


def _points(outcomes: Sequence[Outcome]) -> list[float]:
    return [float(outcome.choice == outcome.gold) if outcome.decided else 0.5 for outcome in outcomes]
