"""The one plain sentence on top of a judge report, by rules that docs/judge_eval.md states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignflow.data.judging.biases import unanswered

LEAST_GOLD = 50
"""Human preferences under which nothing is said of a judge's accuracy: the interval is wider than 0.26."""
USABLE = 0.6
"""The lower end of a usable judge's accuracy. People agree with each other in 65% to 80% of such pairs."""
FLIPS = 0.5
ONE_SEAT = 0.9

NO_LABELS, NEAR_CHANCE, WEAK, USABLE_LEVEL, UNKNOWN = "no_labels", "near_chance", "weak", "usable", "unknown"
POOR = (NO_LABELS, NEAR_CHANCE)
"""Levels at which a labelling run warns in red."""


def conclusion(report: Mapping[str, Any]) -> dict[str, Any]:
    """`level` (no_labels, near_chance, weak, usable, unknown), `text`, and `notes`: what else must be known before its labels are used."""
    level, text = _verdict(report)
    return {"level": level, "text": text, "notes": _notes(report)}


def _verdict(report: Mapping[str, Any]) -> tuple[str, str]:
    if not report["labelled"]:
        return NO_LABELS, f"This judge gave no label for any of {report['pairs']} pairs."
    if found := _by_gold(report):
        return found
    if by_seat := _of_one_seat(report):
        return NEAR_CHANCE, f"The labels of this judge are near chance: {by_seat}."
    if words := unanswered(report["option_mass"]):
        return NEAR_CHANCE, f"The labels of this judge are near chance: {words}."
    gold = report["agreement"]["accuracy"]["trials"] if report["agreement"] else 0
    few = f"{gold} human preferences are too few to say" if gold else "there are no human labels to compare with"
    return UNKNOWN, f"How good the labels of this judge are is not known: {few}. `alignflow judge-eval` measures it."


def _by_gold(report: Mapping[str, Any]) -> tuple[str, str] | None:
    """The verdict by agreement with people; None with too few of their preferences."""
    accuracy = report["agreement"]["accuracy"] if report["agreement"] else {"trials": 0}
    if accuracy["trials"] < LEAST_GOLD:
        return None
    agrees = f"it agrees with {shown(accuracy)} of {accuracy['trials']} human preferences (its ties count one half)"
    if accuracy["high"] < 0.5:
        return NEAR_CHANCE, f"The labels of this judge are worse than chance: {agrees}."
    if accuracy["low"] <= 0.5:
        because = _of_one_seat(report)
        return NEAR_CHANCE, f"The labels of this judge are near chance: {agrees}{f'; {because}' if because else ''}."
    if accuracy["low"] < USABLE:
        return (
            WEAK,
            f"The labels of this judge are weak: {agrees}. Use them as soft labels, calibrated, or take a better judge.",
        )
    return USABLE_LEVEL, f"The labels of this judge can be used: {agrees}."


def _of_one_seat(report: Mapping[str, Any]) -> str:
    """That the seat decides, in words; empty where it does not."""
    first, flips = report["first_position"], report["flips"]
    if flips["low"] is None or flips["low"] <= FLIPS:
        return ""
    if first["rate"] is not None and max(first["rate"], 1 - first["rate"]) >= ONE_SEAT:
        seat, share = ("first", first["rate"]) if first["rate"] > 0.5 else ("second", 1 - first["rate"])
        return (
            f"it prefers the answer in the {seat} seat in {share:.0%} of {first['trials']} questions, whatever it says"
        )
    return f"it changes its mind with the seats in {shown(flips)} of {flips['trials']} pairs"


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = []
    missing = report["abstentions"]
    if missing["rate"] and missing["rate"] > 0.1:
        reasons = ", ".join(f"{reason} {count}" for reason, count in missing["reasons"].items())
        notes.append(f"It gave no label for {missing['rate']:.0%} of {report['pairs']} pairs ({reasons}).")
    flips = report["flips"]
    if flips["rate"] and flips["rate"] > 0.2:
        notes.append(f"{shown(flips)} of its preferences change with the seats; these pairs are ties.")
    effect = report["length_effect"]
    if effect and effect["twice_as_long"]["low"] is not None and effect["twice_as_long"]["low"] > 0.5:
        share = effect["twice_as_long"]
        notes.append(
            f"It favours length: at equal quality an answer that is twice as long wins {shown({**share, 'rate': share['value']})}."
        )
    own = report["self_preference"]
    if own and own["excess"]["low"] is not None and own["excess"]["low"] > 0:
        notes.append(
            f"It prefers answers of {own['family']} more than people do, by {own['excess']['value']:.0%} of pairs."
        )
    calibration = report["calibration"]
    if (
        calibration
        and calibration["ece"]["low"] is not None
        and calibration["ece"]["low"] > calibration["ece_if_calibrated"]
    ):
        notes.append(
            f"Its probabilities are not to be taken literally: expected calibration error {calibration['ece']['value']:.2f} "
            f"({calibration['ece_if_calibrated']:.2f} is what chance alone gives here)."
        )
    words = unanswered(report["option_mass"])
    return [*notes, *([f"{words[0].upper()}{words[1:]}."] if words else [])]


def shown(found: Mapping[str, Any]) -> str:
    """A share with its interval: `54% [50, 58]`."""
    if found["low"] is None:
        return f"{found['rate']:.0%}"
    return f"{found['rate']:.0%} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
