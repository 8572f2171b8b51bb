"""Checks and remarks for the section `merge`: two adapters that train from one base. Pure."""

from __future__ import annotations

from collections.abc import Collection

from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.flows.method_inputs import LABELLED, kinds_of
from alignflow.flows.steps import Link, Node


def check_merge(recipe: Recipe) -> None:
    """Raise RecipeError if the recipe has a section `merge` but one of the two adapters would not be trained."""
    if recipe.merge is None:
        return
    for name in ("sft", "align"):
        config = getattr(recipe, name)
        if getattr(recipe.replace, name):
            why, do = f"replace.{name} brings a model", f"remove replace.{name} or merge"
        elif config is None:
            why, do = f"{name} is null", f"add a section {name} with lora, or remove merge"
        elif name == "sft" and not recipe.data.demonstrations:
            why, do = "without data.demonstrations no SFT runs", "set data.demonstrations, or remove merge"
        elif config.lora is None:
            why, do = f"{name} trains all weights", f"set {name}.lora, or remove merge"
        else:
            continue
        raise RecipeError(f"it merges the adapters of sft and align, but {why}", where="merge", do=do)


def check_start(aligned: Node, base: Link) -> None:
    """Raise RecipeError if the last step that aligns does not start from the base."""
    if aligned.inputs["policy"] != base:
        raise RecipeError(
            f"it merges the adapters of sft and align, but {aligned.name} starts from the model of an earlier round",
            where="merge",
            do="choose an align.method without rounds, or remove merge",
        )


def merge_lines(recipe: Recipe, steps: Collection[str]) -> list[str]:
    """Lines of `plan` about a recipe that merges: which step starts from which model; empty for other recipes."""
    if recipe.merge is None or "merge" not in steps:
        return []
    method = method_row(recipe.align.method)  # type: ignore[union-attr]
    reference = ", with the base as its reference" if method.needs_reference else ""
    kind = next((kind for kind in kinds_of(method) if kind in LABELLED), "preferences")
    sampled = (
        [f"sample: the base answers the prompts, not the sft model: set data.{kind} if it cannot"]
        if "sample" in steps
        else []
    )
    return [
        *sampled,
        f"align: starts from the base instead of from the sft model{reference}; neither of the two needs the other",
        f"merge: the adapters of sft and align by {recipe.merge.method}"
        + ("; evaluate compares the result with the sft model" if "evaluate" in steps else ""),
    ]
