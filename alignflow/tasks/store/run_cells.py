"""Formats figures of runs and artifacts for the terminal and the dashboard. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DASH = "–"
"""Shown for a value that was not measured."""
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def size_text(size: int) -> str:
    """A size in the largest fitting unit: `12.3 MB`, `4.1 kB`, `512 B`."""
    for least, unit in UNITS:
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} B"


def settings_text(settings: Mapping[str, Any] | None, smoke: bool = False) -> str:
    """A run's changes to its recipe in one line; empty if there are none or they are unknown."""
    return ", ".join(
        (["--smoke"] if smoke else []) + [f"{place}={_value(value)}" for place, value in (settings or {}).items()]
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def win_rate_text(rate: float | None, low: float | None, high: float | None) -> str:
    """A win rate in percent, with its interval if there is one: `60% [50, 70]`."""
    if rate is None:
        return DASH
    return f"{rate:.0%}" if low is None or high is None else f"{rate:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def formatted(value: float | None, shape: str = ".2f") -> str:
    """A formatted figure, or a dash."""
    return DASH if value is None else format(value, shape)


def seconds_text(seconds: float | None) -> str:
    """Seconds, without decimals from ten on."""
    return formatted(seconds, ",.0f" if (seconds or 0) >= 10 else ".1f")


def name_text(name: str | None, cached: int = 0) -> str:
    """The name of a run, and the number of fully cached runs folded into it."""
    return (name or DASH) + (f" (+{cached} cached)" if cached else "")
