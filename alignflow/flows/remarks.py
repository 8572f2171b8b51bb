"""Remarks of plan and run about a recipe's data: conversions, options that follow from the judge, unused tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from alignflow.data.binding import configs_in
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.inputs import PROMPTED, SOURCE_KINDS, InitConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.server import ServerOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short
from alignflow.data.vllm_environment import BUILD, vllm_python
from alignflow.flows.contexts import narrow_lines
from alignflow.flows.merges import merge_lines
from alignflow.flows.method_inputs import conversion, kinds_of
from alignflow.flows.rounds import as_method_runs, paper_lines
from alignflow.flows.step_configs import fold_in_replacements
from alignflow.flows.steps import Node


def planned(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """All remarks of a plan, one line each."""
    aligned = next((node for node in steps if node.base == "align"), None)
    converted = conversion(recipe, aligned.inputs) if aligned else ""
    return [
        *([converted] if converted else []),
        *paper_lines(recipe),
        *merge_lines(recipe, [node.name for node in steps]),
        *chosen_options(recipe, steps),
        *unused_lines(recipe, steps, {}),
        *idle_lines(recipe, steps),
        *engine_lines(recipe, steps),
        *narrow_lines(recipe, steps),
    ]


def idle_lines(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """One line for each section of the recipe that does nothing, because its inputs are missing."""
    made, written = {node.base for node in steps}, recipe.model_fields_set
    lines = {
        "sft": "there are no data.demonstrations, so nothing is fine-tuned" if not recipe.replace.sft else "",
        "evaluate": "align is null, so there is no aligned model to compare",
    }
    asked = [name for name in lines if name in written and getattr(recipe, name) is not None and name not in made]
    return [f"{name}: {lines[name]}" for name in asked if lines[name]]


def engine_lines(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """One line if a role needs vLLM but this machine has no environment with it, so that the user knows before the stage starts."""
    if vllm_python():
        return []
    holders: list[tuple[str, BaseModel]] = [("engine.generator", recipe.engine.generator)]
    holders += [(node.base, node.config) for node in steps]
    named = dict.fromkeys(place for where, config in holders for place in _needs_vllm(config, where))
    return [f"{', '.join(named)}: vllm has no environment on this machine: {BUILD}"] if named else []


def _needs_vllm(config: BaseModel, where: str) -> Iterator[str]:
    """Places in a config that run vLLM, as an engine or as a server that the run starts, except places filled from another step."""
    with contextlib.suppress(RecipeError):  # a wrong option is reported when its step is planned
        for place, inner in configs_in(config, where):
            serves = isinstance(inner, ServerOptions) and inner.serve is not None
            if (
                serves or isinstance(inner, GeneratorConfig) and inner.name == "vllm"
            ) and "labelling_judge" not in place:
                yield f"{place}.serve" if serves else place


def chosen_options(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """Options of the method that the recipe does not set and that follow from its judge."""
    config = next((node.config for node in steps if node.base == "align"), None)
    if recipe.align is None or not isinstance(config, AlignConfig):
        return []
    label = as_method_runs(recipe).label
    judge = label.judge.name if label is not None else ""
    return [
        f"align: {short(config.method)} takes options.{name}: {value}, because the judge {judge} compares pairs, so the scores of its rankings are "
        "win rates"
        for name, value in config.options.items()
        if name not in recipe.align.options
    ]


def unused_lines(recipe: Recipe, steps: Sequence[Node], metrics: Mapping[str, float | None]) -> list[str]:
    """One line for each unused table, with its number of rows if the metrics of `prepare` are known."""
    reads = ""
    aligned = next((node for node in steps if node.base == "align"), None)
    if aligned is not None and isinstance(aligned.config, AlignConfig):
        kinds = kinds_of(method_row(aligned.config.method))
        reads = next((f"; {short(aligned.config.method)} reads {kind}" for kind in kinds if kind in aligned.inputs), "")
    lines = []
    for kind in unused_tables(recipe, steps):
        rows = metrics.get(f"{kind}/kept")
        what = "it" if rows is None else f"its {int(rows):,} rows"
        lines.append(f"{_place(recipe, kind)}: no step of the recipe takes {what}{reads}")
    return lines


def _place(recipe: Recipe, kind: str) -> str:
    """Where the recipe names the sources of a table: under `data`, or under `replace`."""
    brought = {"preferences": recipe.replace.label and "label", "completions": recipe.replace.sample and "sample"}
    stage = None if getattr(recipe.data, kind) else brought.get(kind)
    return f"replace.{stage}" if stage else f"data.{kind}"


def unused_tables(recipe: Recipe, steps: Sequence[Node]) -> list[str]:
    """Tables with sources in the recipe that no step uses.

    A table is also used if a step uses what `prepare` makes from it (its prompts, their held-out part, general text), and if
    the tokenizer is trained on its texts. Evaluation prompts are always used: `prepare` removes them from the other tables.
    """
    recipe = fold_in_replacements(recipe)
    data = recipe.data
    taken = {link.part for node in steps for link in node.inputs.values() if link.node == "prepare"} | {"evaluation"}
    if not data.evaluation and any(link.part == "evaluation" for node in steps for link in node.inputs.values()):
        taken.add("prompts")
    if not data.prompts and "prompts" in taken:
        taken |= set([kind for kind in PROMPTED if getattr(data, kind)][:1])
    if not data.general and "general" in taken:
        taken.add("demonstrations")
    if not recipe.model.corpus and any(isinstance(node.config, InitConfig) and node.config.corpus for node in steps):
        taken |= {"demonstrations", "prompts", "general"}
    return [kind for kind in SOURCE_KINDS if getattr(data, kind) and kind not in taken]
