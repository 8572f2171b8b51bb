"""Intervals of shares."""

from __future__ import annotations

from typing import Any


def wilson(successes: float, trials: int, confidence: float) -> tuple[float | None, float | None]:
    """Wilson's score interval (Wilson 1927) of a mean of values in [0, 1]; None without trials.

    With ties counted as one half the variance of a value is at most that of a yes or no of the same mean, so the
    interval is conservative.
    """
    from scipy.stats import norm  # a third of a second, which a process without figures is spared

    if not trials:
        return None, None
    z, mean = float(norm.ppf((1 + confidence) / 2)), successes / trials
    centre = (mean + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (mean * (1 - mean) / trials + z * z / (4 * trials * trials)) ** 0.5
    return (0.0 if not successes else max(0.0, centre - half)), (
        1.0 if successes == trials else min(1.0, centre + half)
    )


def rate(hits: float, trials: int, confidence: float = 0.95) -> dict[str, Any]:
    """A share with Wilson's interval: `rate`, `low`, `high` (None without trials), `hits`, `trials`."""
    low, high = wilson(hits, trials, confidence)
    return {"rate": hits / trials if trials else None, "low": low, "high": high, "hits": hits, "trials": trials}
