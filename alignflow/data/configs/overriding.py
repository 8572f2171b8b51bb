"""What one round has otherwise: fields over those of its section, validated as the section is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from alignflow.data.configs.explaining import explain
from alignflow.data.configs.iterated import OVERRIDDEN
from alignflow.data.step_names import step_name

Config = TypeVar("Config", bound=BaseModel)
Setting = tuple[str, Any]
CHOICES = ("name", "method")
"""Fields that choose a row of the catalogue: the options of another row mean nothing to it."""
OF_ROUND = re.compile(rf"(?P<step>(?:{'|'.join(OVERRIDDEN)})\.[1-9][0-9]*)\.(?P<field>.+)")


def overridden(config: Config, given: Mapping[str, Any] | None, name: str) -> Config:
    """The config of a step with the fields that its round has otherwise; those that nobody set stay unset.

    Raises:
        RecipeError: a field is unknown, or its value is wrong.
    """
    if not given:
        return config
    content = merged(config.model_dump(mode="json", exclude_unset=True), given)
    try:
        return type(config).model_validate(content)
    except ValidationError as error:
        raise explain(
            error, type(config), f"rounds.overrides, {name}", "correct what the round has otherwise"
        ) from None


def merged(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A section with fields over it, at any depth. Where another judge, engine or method is chosen, its options are those that are given
    with it: those of the first one are dropped."""
    found = dict(content)
    if any(name in given and given[name] != content.get(name) for name in CHOICES):
        found.pop("options", None)
    for name, value in given.items():
        below = found.get(name)
        found[name] = merged(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return found


def round_setting(place: str) -> tuple[str, str] | None:
    """Step and field of a setting such as `label.2.judge.name`; None for a setting of no round."""
    found = OF_ROUND.fullmatch(place)
    return (found["step"], found["field"]) if found else None


def for_round(settings: Iterable[Setting], section: str, round: int) -> list[Setting]:
    """Settings of a section as those of one of its rounds; others, and all of them for round 0, as they are."""
    start, name = f"{section}.", step_name(section, round)
    return [
        (f"{name}.{place.removeprefix(start)}" if round and place.startswith(start) else place, value)
        for place, value in settings
    ]
