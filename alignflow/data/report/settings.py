"""Settings of a stage that are not the defaults, and those that are."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from alignflow.data.artifacts import Manifest
from alignflow.data.catalogue import STAGES
from alignflow.data.configs.places import by_place


def changed_settings(manifest: Manifest) -> dict[str, Any]:
    """Place -> value, of what a recipe changed."""
    default = by_place(_defaults(manifest.stage))
    return {
        name: value
        for name, value in by_place(manifest.config).items()
        if name not in default or default[name] != value
    }


def default_settings(manifest: Manifest) -> dict[str, Any]:
    """Place -> value, of what stayed as it is by default."""
    changed = changed_settings(manifest)
    return {name: value for name, value in by_place(manifest.config).items() if name not in changed}


def _defaults(stage: str) -> dict[str, Any]:
    """The config of a stage where a recipe says nothing; without the fields that a recipe has to give."""
    fields = STAGES[stage].config.model_fields
    return {
        name: to_jsonable_python(field.get_default(call_default_factory=True))
        for name, field in fields.items()
        if not field.is_required()
    }
