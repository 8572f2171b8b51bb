"""A recipe in small: every stage on a few rows and steps, to find out in a minute whether all of it works."""

from __future__ import annotations

from typing import Any

from alignflow.data import binding
from alignflow.data.configs.inputs import SOURCE_KINDS
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.online_preference import LiveOptions, OnlineDPOOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import AlignConfig

ROWS, STEPS = 32, 4


def smoke_recipe(recipe: Recipe) -> Recipe:
    """The recipe with ROWS rows of each source and STEPS steps of each training; other values, so other keys."""
    sources = {kind: _few(getattr(recipe.data, kind)) for kind in SOURCE_KINDS}
    # Of so few rows a small share may leave none to evaluate on.
    data = recipe.data.model_copy(
        update={**sources, "heldout_fraction": max(recipe.data.heldout_fraction, 0.3), "max_dropped_fraction": 1.0}
    )  # of so few rows a share says nothing
    training = {"max_steps": STEPS, "batch_size": 8}
    changes: dict[str, Any] = {
        "name": f"{recipe.name[:58]}-smoke",
        "data": data,
    }
    if recipe.sample is not None:
        few_answers = {"n": min(recipe.sample.n, 3), "max_new_tokens": min(recipe.sample.max_new_tokens, 24)}
        changes["sample"] = recipe.sample.model_copy(update=few_answers)
    if recipe.revise is not None:
        short = {name: min(getattr(recipe.revise, name), 24) for name in ("critique_tokens", "max_new_tokens")}
        changes["revise"] = recipe.revise.model_copy(update=short)
    for stage in ("sft", "reward", "align"):
        config = getattr(recipe, stage)
        if config is not None:
            changes[stage] = config.model_copy(update=training | {"batch_size": min(config.batch_size, 8)})
    if recipe.align is not None:
        changes["align"] = changes["align"].model_copy(update={"options": _short_answers(recipe.align)})
    if recipe.judge_eval is not None:
        few = min(recipe.judge_eval.max_rows or ROWS, ROWS)
        changes["judge_eval"] = recipe.judge_eval.model_copy(update={"max_rows": few, "injections": 2})
    if recipe.evaluate is not None:
        changes["evaluate"] = recipe.evaluate.model_copy(
            update={"max_prompts": 8, "max_general_rows": 8, "max_new_tokens": min(recipe.evaluate.max_new_tokens, 24)}
        )
    # So few rows and steps say nothing about limits; that the metrics exist, they do say.
    changes["gates"] = tuple(gate.model_copy(update={"action": "warn"}) for gate in recipe.gates)
    return _with_own_fields(recipe, changes)


def _short_answers(align: AlignConfig) -> dict[str, Any]:
    """The options of a method that samples, with fewer and shorter answers; those of any other as they are."""
    options = binding.parsed_options(align, "align")
    if isinstance(options, LiveOptions):
        short = {"response_length": min(options.response_length, 24), "samples_steps": 2}
        few = {"num_generations": 2} if isinstance(options, OnlineDPOOptions) else {}
        return {**align.options, **short, **few}
    if not isinstance(options, OnlineOptions):
        return align.options
    small = {
        "response_length": min(options.response_length, 24),
        "num_generations": min(options.num_generations, 2),
        "num_mini_batches": min(options.num_mini_batches, 2),
        "samples_steps": 2,
    }
    return {**align.options, **small}


def _few(sources: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(source.model_copy(update={"max_rows": min(source.max_rows or ROWS, ROWS)}) for source in sources)


def _with_own_fields(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A copy that remembers which sections the user wrote: the graph asks whether `reward` was."""
    fields = set(recipe.model_fields_set)
    copy = recipe.model_copy(update=changes)
    copy.__pydantic_fields_set__.intersection_update(fields)
    return copy
