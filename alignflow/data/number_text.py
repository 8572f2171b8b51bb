"""Figures as people write them."""

from __future__ import annotations

from typing import Any


def number_text(value: Any) -> str:
    """A figure with four significant digits, whole from 1,000 on, where 3.344e+04 would be harder to read; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
