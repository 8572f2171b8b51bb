"""Whether a judge's probabilities mean what they say: calibration curve, expected calibration error, Brier score, log loss, entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from alignflow.data.intervals import rate
from alignflow.data.judging.resampling import SEED, interval

BINS = 10
"""Bins of equal width of the confidence max(p, 1 - p), from 0.5 to 1."""
SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1 in the log loss, which one sure and wrong label would make infinite."""
SIMULATIONS = 200
Numbers = NDArray[numpy.float64]


def calibration_figures(
    probabilities: Sequence[float], gold: Sequence[float], rows: Sequence[str]
) -> dict[str, Any] | None:
    """Calibration of P(first is better) over pairs of which people prefer one answer; None without such pairs.

    Args:
        probabilities: By the judge.
        gold: 1.0 where people prefer the first answer, 0.0 the second.
        rows: The prompt of each pair.

    Returns:
        `curve` (a line for each bin that has pairs: confidence, accuracy with Wilson's interval), `ece`, `brier` and `log_loss` (nats) with
        bootstrap intervals, and `ece_if_calibrated`: the mean of `ece` if labels were drawn from the probabilities themselves. With few
        pairs that is well above 0, and an `ece` is bad only as far as it is above that.
    """
    if not probabilities:
        return None
    chance, truth = numpy.asarray(probabilities, float), numpy.asarray(gold, float)
    drawing = numpy.random.default_rng(SEED)
    drawn = [ece(chance, (drawing.random(len(chance)) < chance).astype(float)) for _ in range(SIMULATIONS)]
    return {
        "pairs": len(chance),
        "bins": BINS,
        "curve": curve(chance, truth),
        "ece": interval(rows, lambda places: ece(chance[places], truth[places])),
        "ece_if_calibrated": float(numpy.mean(drawn)),
        "brier": interval(rows, lambda places: brier(chance[places], truth[places])),
        "log_loss": interval(rows, lambda places: log_loss(chance[places], truth[places])),
    }


def ece(probabilities: Numbers, gold: Numbers) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 5) of the preferred answer, over BINS bins of confidence.

    sum over bins of (pairs in the bin / pairs) * |accuracy - mean confidence|. One half prefers neither answer: half right.
    """
    confidence, right, bins = _binned(probabilities, gold)
    gaps = numpy.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(numpy.abs(gaps).sum() / len(confidence))


def curve(probabilities: Numbers, gold: Numbers) -> list[dict[str, Any]]:
    """The points of the calibration curve."""
    confidence, right, bins = _binned(probabilities, gold)
    points = []
    for number in sorted(set(bins.tolist())):
        inside = bins == number
        points.append(
            {"confidence": float(confidence[inside].mean()), **rate(float(right[inside].sum()), int(inside.sum()))}
        )
    return points


def brier(probabilities: Numbers, gold: Numbers) -> float:
    """Mean of (p - gold)^2; 0.25 for a judge that always says one half."""
    return float(numpy.mean((probabilities - gold) ** 2))


def log_loss(probabilities: Numbers, gold: Numbers) -> float:
    """Mean of -log of the probability of what people prefer, in nats; ln 2 = 0.693 for a judge that always says one half."""
    kept = numpy.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return float(-numpy.mean(gold * numpy.log(kept) + (1 - gold) * numpy.log1p(-kept)))


def entropy(probability: float) -> float:
    """Entropy of a yes-or-no label, in bits: 1 at one half."""
    return -sum(share * math.log2(share) for share in (probability, 1.0 - probability) if share > 0)


def _binned(probabilities: Numbers, gold: Numbers) -> tuple[Numbers, Numbers, NDArray[numpy.intp]]:
    """Confidence of the preferred answer, whether it is the right one, and the bin of each pair."""
    confidence = numpy.maximum(probabilities, 1 - probabilities)
    right = numpy.where(probabilities == 0.5, 0.5, ((probabilities > 0.5) == (gold > 0.5)).astype(float))
    bins = numpy.minimum(((confidence - 0.5) * 2 * BINS).astype(numpy.intp), BINS - 1)
    return confidence, right, bins
