"""Mixes pairs labelled by people with those of a judge: one preference set, in which each row says who labelled it.

Two pairs are the same if prompt and both answers are, in either order and in normalised text. With `override` such a
pair has the given label; with `join` its P(chosen is better) is the weighted mean of both, and its weight their sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignflow.data.agreement import kappa_figures
from alignflow.data.configs.generation import LabelConfig
from alignflow.data.intervals import rate
from alignflow.data.records import pair_key, read_table, row_id
from alignflow.models.judges.pairing import REPEATED, TIE, JudgedPair, is_label_held_out

Row = dict[str, Any]
LOW_CONFIDENCE = "low confidence"


@dataclass
class Mixed:
    """A preference set of several labellers.

    Attributes:
        train: Rows of preferences.
        heldout: Held-out rows of preferences.
        counts: `judged`, `given`, `both` (labelled twice), `changed` (of these, the pairs whose final label reverses the judge's choice).
        dropped: Reason -> number of pairs in neither split.
    """

    train: list[Row] = field(default_factory=list)
    heldout: list[Row] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def statistics(self) -> dict[str, Any]:
        """For statistics.json."""
        sides = {"train": self.train, "heldout": self.heldout}
        labellers = Counter(row["judge"] or "unknown" for rows in sides.values() for row in rows)
        return {
            "pairs": {side: len(rows) for side, rows in sides.items()},
            "labellers": dict(sorted(labellers.items())),
            "mixed": {**self.counts, "dropped": dict(sorted(self.dropped.items()))},
        }


def read_given(preferences: Path | None) -> list[Row]:
    """Both splits of the pairs of `prepare`; they are split again, like the judge's."""
    if preferences is None:
        return []
    return [row for side in ("train", "heldout") for row in read_table(preferences / f"{side}.parquet")]


def mixed(judged: Sequence[tuple[Row, bool]], given: Sequence[Row], config: LabelConfig) -> Mixed:
    """The judge's pairs, each with a flag for held out, and those of people, as one set.

    Judged pairs keep their order; a pair labelled by both is in the place of the judge's.
    """
    of_people = {key_of(row)[0]: row for row in (_weighed(row, config.given_weight) for row in given)}
    found, both, changed = Mixed(), 0, 0
    met: set[str] = set()
    for row, held_out in judged:
        key, turned = key_of(row)
        own = of_people.get(key)
        if own is not None:
            if key in met:  # pairs of people whose texts differ only in spaces or letter case are the same pair
                found.dropped[REPEATED] += 1
                continue
            met.add(key)
            both += 1
            joined = own if config.mix == "override" else join(row, own)
            changed += joined is not None and key_of(joined)[1] != turned
            if joined is None:
                found.dropped[TIE] += 1
                continue
            row = joined
        _add(found, row, held_out, config.min_confidence)
    found.dropped[REPEATED] += len(given) - len(of_people)
    for row in (row for key, row in of_people.items() if key not in met):
        _add(found, row, is_label_held_out(row["prompt"], config.heldout_fraction), config.min_confidence)
    found.dropped = +found.dropped  # without reasons that have no pair
    found.counts = {"judged": len(judged), "given": len(given), "both": both, "changed": changed}
    return found


def _add(found: Mixed, row: Row, held_out: bool, least: float) -> None:
    sure = next((row[name] for name in ("confidence", "soft_label") if row.get(name) is not None), None)
    if sure is not None and sure < least:
        found.dropped[LOW_CONFIDENCE] += 1
    else:
        (found.heldout if held_out else found.train).append(row)


def _weighed(row: Row, weight: float) -> Row:
    total = weight * (1.0 if row.get("weight") is None else row["weight"])
    return {"judge": None, **row, "weight": None if total == 1.0 else total}


def key_of(row: Mapping[str, Any]) -> tuple[str, bool]:
    """See `pair_key`."""
    return pair_key(row["prompt"], row["chosen"][-1]["content"], row["rejected"][-1]["content"])


def join(row: Row, given: Row) -> Row | None:
    """One row of two labels of the same pair; None if they cancel each other out."""
    weights = [1.0 if each.get("weight") is None else each["weight"] for each in (row, given)]
    shares = [1.0 if each.get("soft_label") is None else each["soft_label"] for each in (row, given)]
    if key_of(row)[1] != key_of(given)[1]:
        shares[1] = 1.0 - shares[1]
    share = sum(weight * value for weight, value in zip(weights, shares, strict=True)) / sum(weights)
    if abs(share - 0.5) < 1e-9:
        return None
    better = row if share > 0.5 else given if key_of(row)[1] != key_of(given)[1] else _turned(row)
    return {
        **better,
        "id": row_id("joined", row["id"], given["id"]),
        "soft_label": max(share, 1.0 - share),
        "margin": abs(2 * share - 1),
        "score_chosen": None,
        "score_rejected": None,
        "judge": f"{row['judge']}+{given['judge'] or 'unknown'}",
        "weight": sum(weights),
        "confidence": None,
        "rationale": better.get("rationale")
        if better is row or better is given
        else None,  # the row is reversed: the probability of the other answer
        "p_given": None,
        "p_swapped": None,
    }


def _turned(row: Row) -> Row:
    return {
        **row,
        "chosen": row["rejected"],
        "rejected": row["chosen"],
        "chosen_ended": row["rejected_ended"],
        "rejected_ended": row["chosen_ended"],
    }


def human_agreement(judged: Sequence[tuple[Row, JudgedPair]], given: Sequence[Row]) -> dict[str, Any]:
    """How often a judge prefers what people prefer, over the pairs that both have seen.

    Args:
        judged: Rows of completions, each with a pair of their answers that was judged.
        given: Pairs that people labelled.

    Returns:
        `pairs` (seen by both), `undecided` (ties and abstentions of the judge among them), and over the decided ones `hits`, `trials`,
        `rate`, `low`, `high`, and `kappa` (Cohen's) with `kappa_low` and `kappa_high`; None if there is nothing to count. 95% intervals.
    """
    turned = dict(map(key_of, given))
    pairs, undecided, choices = 0, 0, []
    for row, pair in judged:
        texts = row["completions"]
        key, order = pair_key(row["prompt"], texts[pair.first], texts[pair.second])
        if key not in turned:
            continue
        pairs += 1
        if not pair.verdict.decided:
            undecided += 1
            continue
        choices.append((pair.chosen == pair.first, turned[key] == order))
    hits = sum(own == theirs for own, theirs in choices)
    return {"pairs": pairs, "undecided": undecided, **rate(hits, len(choices)), **kappa_figures(choices)}
