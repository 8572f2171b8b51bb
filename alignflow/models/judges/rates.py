"""Rates with their uncertainty, as label statistics and evaluations print them."""

from __future__ import annotations

from typing import Any

from scipy.stats import binomtest


def rate(hits: int, trials: int, confidence: float = 0.95) -> dict[str, Any]:
    """A share with Wilson's interval: `rate`, `low`, `high` (None without trials), `hits`, `trials`."""
    if not trials:
        return {"rate": None, "low": None, "high": None, "hits": hits, "trials": 0}
    interval = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    return {
        "rate": hits / trials,
        "low": float(interval.low),
        "high": float(interval.high),
        "hits": hits,
        "trials": trials,
    }
