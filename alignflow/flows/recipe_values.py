"""Forms that are of one recipe, such as that of a schedule: each field says what the recipe has there. No Prefect, no torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignflow.data.configs.loading import parse_setting
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import AlignflowError
from alignflow.flows.forms import AS_IN_THE_RECIPE, Form, as_yaml, pipeline_form, stage_form, sweep_form
from alignflow.flows.requests import RunRequest

WHERE_VALUES_ARE = (
    "Empty fields are as the recipe's file says. This form is for every recipe, so it cannot show the values of one: read them in the file, "
    "or make a schedule of the recipe, whose own form shows them."
)
"""What the description of a deployment for every recipe says."""
EMPTY = f"Empty: {AS_IN_THE_RECIPE}"
LONGEST_VALUE = 300


def form_of(flow: str) -> type[Form] | None:
    """The form of a flow's settings; None for a flow that takes no recipe."""
    if flow == "rlaif-data":
        return None
    return {"pipeline": pipeline_form, "sweep": sweep_form}.get(flow, lambda: stage_form(flow))()


def of_one_recipe(
    schema: Mapping[str, Any], description: str, flow: str, parameters: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """The schema and the description of a deployment for the recipe that its parameters name.

    The values stay out of the parameters: a run reads the recipe's file, which may have changed since.

    Args:
        schema: The schema of the flow's deployment for every recipe.
        description: Its description.
        flow: Name of the flow.
        parameters: `recipe` and perhaps `more`, as the flow takes them.

    Returns:
        Both with the values of the recipe as it is now, or with the reason why they are not known.
    """
    form, found = form_of(flow), copy.deepcopy(dict(schema))
    path = parameters.get("recipe")
    if form is None or not isinstance(path, str):
        return found, description
    start = description.removesuffix(WHERE_VALUES_ARE)
    try:
        recipe = RunRequest(path, tuple(parse_setting(text) for text in parameters.get("more") or ())).recipe()
    except AlignflowError as error:
        return found, f"{start}The fields cannot show the values of the recipe: {' '.join(str(error).split())}"
    fields = found.get("definitions", {}).get(form.__name__, {}).get("properties", {})
    for name, place in form.places.items():
        if name in fields and (text := _value(recipe, place)):
            before, _, _ = fields[name]["description"].rpartition(EMPTY)
            fields[name]["description"] = f"{before}{EMPTY}: {text}."
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    return (
        found,
        f"{start}The fields show the values that {Path(path).name} had at {now} UTC. Each run reads the file again.",
    )


def _value(recipe: Recipe, place: str) -> str:
    """The value at a place of the recipe as `--set` reads it; empty where it has no such section, or the value says nothing."""
    value: Any = recipe.model_dump(mode="json")
    for name in place.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ""
        value = value[name]
    if value in (None, "", [], {}):
        return ""
    text = as_yaml(value)
    return text if len(text) <= LONGEST_VALUE else "a long value, see the file"
