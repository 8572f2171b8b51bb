"""The judge report as data: every figure from the outcomes of a judge, without times, so that equal outcomes give equal bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from alignflow.data.intervals import rate
from alignflow.data.judging.agreement import agreement
from alignflow.data.judging.biases import (
    first_position,
    flips,
    length_effect,
    longer_wins,
    option_mass,
    self_preference,
)
from alignflow.data.judging.conclusion import conclusion
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.probabilities import calibration_figures, entropy

BINS = 20


def judge_report(
    outcomes: Sequence[Outcome],
    judge: str,
    *,
    pointwise: bool = False,
    family: str = "",
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All of judge_report.json; a figure that nothing could be counted for is None, and every rate has a 95% interval.

    Args:
        outcomes: One for each pair.
        judge: What the judge is called.
        pointwise: Whether it knows no seats, so that nothing flips: it scores answers one by one, or is a jury.
        family: Family of the judge's model, for self-preference; empty where it is not known.
        more: Further sections (scores, injections, calibration that was fitted), as they are.
    """
    labelled = [outcome for outcome in outcomes if outcome.probability is not None]
    probabilities = [outcome.probability for outcome in labelled if outcome.probability is not None]
    found = {
        "judge": judge,
        "pointwise": pointwise,
        "pairs": len(outcomes),
        "prompts": len({outcome.row for outcome in outcomes}),
        "labelled": len(labelled),
        "decided": sum(outcome.decided for outcome in outcomes),
        "ties": rate(sum(outcome.choice == 0.5 for outcome in labelled), len(labelled)),
        "abstentions": _abstentions(outcomes),
        "agreement": agreement(outcomes),
        "first_position": first_position(outcomes, pointwise),
        "flips": flips([] if pointwise else outcomes),
        "longer_wins": longer_wins(outcomes),
        "length_effect": length_effect(outcomes),
        "self_preference": self_preference(outcomes, family),
        "calibration": _calibration(outcomes),
        "entropy": float(numpy.mean([entropy(value) for value in probabilities])) if probabilities else None,
        "probability": _histogram(probabilities),
        "option_mass": option_mass([mass for outcome in outcomes for mass in outcome.masses]),
        **(more or {}),
    }
    return {"conclusion": conclusion(found), **found}


def report_metrics(report: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a report that are metrics of its step, which gates can hold a run by."""
    agreed, mass, effect, calibration = (
        report[name] for name in ("agreement", "option_mass", "length_effect", "calibration")
    )
    found: dict[str, float | None] = {
        "pairs": float(report["pairs"]),
        "abstentions": report["abstentions"]["rate"],
        "ties": report["ties"]["rate"],
        "flip_rate": report["flips"]["rate"],
        "first_position_rate": report["first_position"]["rate"],
        "longer_wins_rate": report["longer_wins"]["rate"],
        "entropy": report["entropy"],
    }
    for name in ("accuracy", "accuracy_decided", "three_way"):
        part = agreed[name] if agreed else {"rate": None, "low": None, "high": None}
        found |= {name: part["rate"], f"{name}/low": part["low"], f"{name}/high": part["high"]}
    found |= _with_interval("kappa", agreed["kappa"] if agreed else None)
    found |= _with_interval("ece", calibration["ece"] if calibration else None)
    found["brier"] = calibration["brier"]["value"] if calibration else None
    found["twice_as_long"] = effect["twice_as_long"]["value"] if effect else None
    if mass:
        found |= {"option_mass": mass["mean"], "option_mass_p5": mass["p5"]}
    return found


def _with_interval(name: str, part: Mapping[str, Any] | None) -> dict[str, float | None]:
    ends = part or {"value": None, "low": None, "high": None}
    return {name: ends["value"], f"{name}/low": ends["low"], f"{name}/high": ends["high"]}


def _abstentions(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    reasons = Counter(outcome.reason or "no label" for outcome in outcomes if outcome.probability is None)
    return {**rate(reasons.total(), len(outcomes)), "reasons": dict(sorted(reasons.items()))}


def _calibration(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    used = [
        (outcome.probability, outcome.gold, outcome.row)
        for outcome in outcomes
        if outcome.probability is not None and outcome.gold in (0.0, 1.0)
    ]
    return calibration_figures([one[0] for one in used], [one[1] for one in used], [one[2] for one in used])


def _histogram(probabilities: Sequence[float]) -> dict[str, Any] | None:
    if not probabilities:
        return None
    counts, edges = numpy.histogram(probabilities, bins=BINS, range=(0.0, 1.0))
    return {"counts": counts.tolist(), "edges": edges.tolist()}
