"""Agreement of labellers: raw, Cohen's kappa for two (Cohen 1960), Krippendorff's alpha for any number (Krippendorff 2004), with intervals.

A kappa or alpha of 1 is agreement on every item, 0 what chance would give. Both are None where every label is the same: chance agrees
on those, too, and nothing can be said.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from alignflow.data.intervals import wilson

CONFIDENCE = 0.95
RESAMPLES = 1000
Pair = tuple[Hashable, Hashable]
Figure = Callable[[np.ndarray], float | None]


def cohen_kappa(pairs: Sequence[Pair]) -> float | None:
    """(p_o - p_e) / (1 - p_e) for the labels of two labellers, one pair for each item; p_e from the shares of each one's labels."""
    if not pairs:
        return None
    return _kappa(_table(pairs))


def _table(pairs: Sequence[Pair]) -> np.ndarray:
    """(labels, labels): how often the first labeller said one thing and the second another."""
    names = {label: place for place, label in enumerate(sorted({label for pair in pairs for label in pair}, key=str))}
    table = np.zeros((len(names), len(names)))
    for one, other in pairs:
        table[names[one], names[other]] += 1
    return table


def _kappa(table: np.ndarray) -> float | None:
    share = table / table.sum()
    observed, expected = float(np.trace(share)), float(share.sum(0) @ share.sum(1))
    return None if expected >= 1 - 1e-12 else (observed - expected) / (1 - expected)


def kappa_interval(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """95% interval of Cohen's kappa by its large-sample standard error (Fleiss, Cohen and Everitt 1969)."""
    from scipy.stats import norm

    kappa = cohen_kappa(pairs)
    if kappa is None:
        return None, None
    share = _table(pairs) / len(pairs)
    rows, columns = share.sum(1), share.sum(0)
    expected = float(rows @ columns)
    diagonal = np.diag(share) * (1 - (rows + columns) * (1 - kappa)) ** 2
    off = share * (rows[None, :] + columns[:, None]) ** 2 * (1 - kappa) ** 2
    spread = diagonal.sum() + off.sum() - np.trace(off) - (kappa - expected * (1 - kappa)) ** 2
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * float(max(spread, 0.0)) ** 0.5 / ((1 - expected) * len(pairs) ** 0.5)
    return max(-1.0, kappa - half), min(1.0, kappa + half)


def kappa_figures(pairs: Sequence[Pair]) -> dict[str, float | None]:
    """`kappa`, `kappa_low` and `kappa_high`; None where it is not defined."""
    return dict(zip(("kappa", "kappa_low", "kappa_high"), (cohen_kappa(pairs), *kappa_interval(pairs)), strict=True))


def krippendorff_alpha(items: Sequence[Sequence[Hashable]]) -> float | None:
    """1 - D_o / D_e for nominal labels: any number of labellers, with missing labels; items with one label tell nothing."""
    told = [labels for labels in items if len(labels) > 1]
    names = {
        label: place for place, label in enumerate(sorted({label for labels in told for label in labels}, key=str))
    }
    counts = np.zeros((len(told), max(len(names), 1)))
    for place, labels in enumerate(told):
        for label in labels:
            counts[place, names[label]] += 1
    return _alpha(counts)


def _alpha(counts: np.ndarray) -> float | None:
    """Of counts (items, labels), at least two in each item."""
    sizes = counts.sum(1)
    total = sizes.sum()
    if total == 0:
        return None
    agreeing = ((counts * (counts - 1)).sum(1) / (sizes - 1)).sum()
    of_label = counts.sum(0)
    by_chance = (of_label * (of_label - 1)).sum() / (total - 1)
    return None if total - by_chance < 1e-9 else float(1 - (total - agreeing) / (total - by_chance))


def alpha_interval(items: Sequence[Sequence[Hashable]], seed: int = 0) -> tuple[float | None, float | None]:
    """95% interval of Krippendorff's alpha: percentiles over items drawn with replacement; None for fewer than two items."""
    told = [labels for labels in items if len(labels) > 1]
    if len(told) < 2 or krippendorff_alpha(told) is None:
        return None, None
    generator = np.random.default_rng(seed)
    drawn = (
        krippendorff_alpha([told[place] for place in generator.integers(len(told), size=len(told))])
        for _ in range(RESAMPLES)
    )
    found = [value for value in drawn if value is not None]
    if not found:
        return None, None
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def agreement(labels: Mapping[str, Mapping[str, Hashable]]) -> dict[str, Any]:
    """All figures for labellers by name, each with its labels by item.

    Returns:
        `labellers`: name -> number of labels. `pairs`: for each two labellers with a common item their names, `items`, `agree`, `rate`
        (with `low` and `high`, Wilson), and Cohen's `kappa` (with `kappa_low`, `kappa_high`). `items`: those with two labels or more.
        `alpha`, `alpha_low`, `alpha_high`: Krippendorff's over all of them. None where there is nothing to say.
    """
    by_item: dict[str, list[Hashable]] = {}
    for own in labels.values():
        for item, label in own.items():
            by_item.setdefault(item, []).append(label)
    pairs = [
        _of_two(one, other, labels)
        for one, other in itertools.combinations(labels, 2)
        if labels[one].keys() & labels[other].keys()
    ]
    several = [found for found in by_item.values() if len(found) > 1]
    low, high = alpha_interval(several)
    return {
        "labellers": {name: len(own) for name, own in labels.items()},
        "items": len(several),
        "pairs": pairs,
        "alpha": krippendorff_alpha(several),
        "alpha_low": low,
        "alpha_high": high,
    }


def _of_two(one: str, other: str, labels: Mapping[str, Mapping[str, Hashable]]) -> dict[str, Any]:
    common = [(labels[one][item], labels[other][item]) for item in labels[one] if item in labels[other]]
    agree = sum(first == second for first, second in common)
    low, high = wilson(agree, len(common), CONFIDENCE)
    return {
        "labellers": [one, other],
        "items": len(common),
        "agree": agree,
        "rate": agree / len(common),
        "low": low,
        "high": high,
        **kappa_figures(common),
    }
