"""Figures of an update: sums over all processes, and the means, deviations and shares that curves and alarms show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignflow.models.engines import group

Sums = Mapping[str, tuple[float, float]]
"""Name -> (sum, count); NAME/square holds the squares of NAME."""


def sums_of_all(sums: Sums) -> dict[str, tuple[float, float]]:
    """The sums and counts added over all processes; every process must give the same names."""
    flat = {f"{kind}:{name}": pair[place] for name, pair in sums.items() for place, kind in enumerate(("sum", "count"))}
    total = group.sum_all(flat)
    return {name: (total[f"sum:{name}"], total[f"count:{name}"]) for name in sums}


def variance(sums: Sums, name: str, unbiased: bool = True) -> float | None:
    """Standard deviation of the values behind NAME and NAME/square; None if there are too few."""
    total, count = sums[name]
    if count < 2:
        return None
    squares = sums[f"{name}/square"][0] - total * total / count
    return max(squares, 0.0) / (count - 1 if unbiased else count)


def point(sums: Sums) -> dict[str, float]:
    """A point of the curves: means by name, `objective/scores_std`, `val/ratio_var` and `val/explained_variance`."""
    hidden = ("value/return", "value/error")
    means = {
        name: total / count
        for name, (total, count) in sums.items()
        if count and not name.endswith("/square") and name not in hidden
    }
    if "val/ratio/square" in sums:
        means["val/ratio_var"] = variance(sums, "val/ratio", unbiased=False) or 0.0
    spread = variance(sums, "objective/scores") if "objective/scores" in sums else None
    if spread is not None:
        means["objective/scores_std"] = spread**0.5
    returns, error = (variance(sums, name) if name in sums else None for name in hidden)
    if returns and error is not None:
        means["val/explained_variance"] = 1 - error / returns
    return means


def alarm_figures(sums: Sums, heldout: str) -> dict[str, float | None]:
    """The figures for the alarms; `heldout` names the held-out judge's figure, which may be missing."""

    def mean(name: str) -> float | None:
        total, count = sums.get(name, (0.0, 0.0))
        return total / count if count else None

    def error(name: str) -> float | None:
        spread = variance(sums, name) if name in sums else None
        return None if spread is None else (spread / sums[name][1]) ** 0.5

    return {
        "kl": mean("objective/kl"),
        "scores": mean("objective/scores"),
        "scores_error": error("objective/scores"),
        "heldout": mean(heldout),
        "heldout_error": error(heldout),
        "length": mean("completions/mean_length"),
        "repetition": mean("completions/repetition"),
        "entropy": mean("policy/entropy_avg"),
        "zero_std": mean("frac_reward_zero_std"),
    }


def rounded(point: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a progress line."""
    names = {"objective/scores": "score", "objective/kl": "kl", "completions/mean_length": "length"}
    return {shown: float(point[name]) for name, shown in names.items() if name in point}
