"""Settings by their places, as `--set` names them: `align.options.beta`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT = "(default)"
"""Stands for a value that is not set."""


def by_place(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by their places: `judge.name`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(n): item for n, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            found |= by_place(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Place -> value of `one`, for each place at which two configs differ; DEFAULT where `one` says nothing, as empty lists and mappings do."""
    mine, others = (
        {place: value for place, value in by_place(config).items() if value not in ({}, [])} for config in (one, other)
    )
    changed = {place: value for place, value in mine.items() if place not in others or others[place] != value}
    return changed | {place: DEFAULT for place in others if place not in mine}
