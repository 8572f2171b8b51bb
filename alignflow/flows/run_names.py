"""Names of flow runs: the recipe, the flow, and the settings that differ from the recipe's file. No Prefect, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from alignflow.data.configs.places import by_place
from alignflow.flows.forms import as_yaml

MOST_NAMED = 3
LONGEST_VALUE = 24
GENERATED = re.compile(r"[A-Z]?[a-z]+-[A-Z]?[a-z]+")
"""Pattern of the names that Prefect generates, `shy-seal`, and that its form fills in, `Shy-Seal`."""


def run_title(recipe: str, flow: str, settings: Iterable[tuple[str, Any]]) -> str:
    """The name of a run: `quickstart align beta=0.3`; `settings` are places of the recipe and their values."""
    return " ".join([recipe, flow, *changes(flow, settings)])


def changes(flow: str, settings: Iterable[tuple[str, Any]]) -> list[str]:
    """A run's changes in short form: places without the flow's own section and `options`, and the number of changes left out."""
    found: dict[str, Any] = {}
    for place, value in settings:
        found |= by_place({place: value}) if isinstance(value, Mapping) else {place: value}
    named = [f"{_short(place, flow)}={_value(value)}" for place, value in found.items()]
    more = len(named) - MOST_NAMED
    return [*named[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


def is_generated(name: str) -> bool:
    """Whether Prefect generated a name; a person's name of the same pattern cannot be distinguished."""
    return GENERATED.fullmatch(name) is not None


def _short(place: str, flow: str) -> str:
    parts = [part for part in place.removeprefix(f"{flow}.").split(".") if part != "options"]
    return ".".join(parts) or place


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else as_yaml(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
