"""Rounds of a method: their number, their reference, and the config of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from alignflow.data import binding
from alignflow.data.catalogue.method import Iterated
from alignflow.data.configs.base import LARGEST_SEED
from alignflow.data.configs.generation import SampleConfig
from alignflow.data.configs.iterated import Reference
from alignflow.data.configs.overriding import merged
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.staged import StagedOptions
from alignflow.data.configs.training import AlignConfig, SplitConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short
from alignflow.data.step_names import base_and_round
from alignflow.flows.step_configs import seeded

Config = TypeVar("Config", bound=BaseModel)


def split_config(options: StagedOptions) -> SplitConfig:
    """The config of the step that splits the data."""
    return SplitConfig(parts=options.stages, order=options.order)


def round_config(config: AlignConfig) -> AlignConfig:
    """The config of each round, without the options that only split the data, so that another part or another order
    runs a round again only if its own rows or its starting model differ."""
    own = {name: value for name, value in config.options.items() if name not in StagedOptions.model_fields}
    return config.model_copy(update={"options": own})


@dataclass(frozen=True)
class Plan:
    """The rounds of sample, label and train of a recipe and its method. The config of a round does not contain their number.

    Attributes:
        number: Number of rounds.
        reference: The reference of their training.
        judges_itself: Whether the round's policy is the judge if the judge names no model.
    """

    number: int
    reference: Reference
    judges_itself: bool


def sampling_of(recipe: Recipe, round: int) -> SampleConfig:
    """The sampling config of a round: its own seed (the recipe's in the first round), and its part of the prompts."""
    config: SampleConfig = seeded(recipe.sample, recipe.seed)  # `planned_rounds` refuses rounds without one
    parts = recipe.rounds.prompt_parts
    own: dict[str, int] = {"seed": (config.seed + round - 1) % LARGEST_SEED}
    if parts > 1:
        own |= {"prompt_parts": parts, "prompt_part": (round - 1) % parts + 1}
    return config.model_copy(update=own)


def as_method_runs(recipe: Recipe) -> Recipe:
    """The recipe with the paper's values for `sample` and `label`, if it runs in rounds and does not set them."""
    if planned_rounds(recipe) is None:
        return recipe
    row = method_row(recipe.align.method).rounds or Iterated()  # type: ignore[union-attr]
    asked: dict[str, BaseModel] = {name: getattr(recipe, name) for name in ("sample", "label")}
    changes = {name: _with_defaults(config, getattr(row, name)) for name, config in asked.items()}
    return recipe.model_copy(update=changes)


def planned_rounds(recipe: Recipe) -> Plan | None:
    """The rounds of a recipe; None if its method learns once from existing data, or splits that data into rounds.

    Raises:
        RecipeError: the recipe asks for rounds, but the method has none, or different ones.
    """
    asked = recipe.rounds
    if recipe.align is None and asked.number:
        raise RecipeError(
            "a round ends with a training, but the recipe has none",
            where="rounds.number",
            do="set align, or remove rounds",
        )
    if recipe.align is None or recipe.replace.align:
        return None
    method = method_row(recipe.align.method)
    by_itself = method.rounds or Iterated(number=0)
    number = by_itself.number if asked.number is None else asked.number
    if not number:
        _refuse_unread(recipe)
        return None
    check_method(recipe.align)
    _check(recipe)
    return Plan(
        number,
        asked.reference or by_itself.reference,
        by_itself.judges_itself,
    )


def check_method(config: AlignConfig, where: str = "rounds.number") -> None:
    """Raise RecipeError for a method that cannot train in a round; `where` is the place that asks for it."""
    name = short(config.method)
    if not method_row(config.method).learns_from().feeds:
        raise RecipeError(
            f"{name} samples as it trains, and runs once",
            where=where,
            do="remove it, or use a method that learns from existing data",
        )
    if isinstance(binding.parsed_options(config, "align"), StagedOptions):
        raise RecipeError(
            f"{name} already has rounds, on parts of the data",
            where=where,
            do="remove it and set align.options.stages, or use dpo or iterative_dpo",
        )


def check_who_judges(config: AlignConfig, plan: Plan, where: str) -> None:
    """Raise RecipeError if a round's method and the recipe's method differ in whether the policy judges itself."""
    judges_itself = (method_row(config.method).rounds or Iterated()).judges_itself
    if judges_itself != plan.judges_itself:
        said = "has the policy of each round judge itself" if judges_itself else "does not have the policy judge itself"
        raise RecipeError(
            f"{short(config.method)} {said}, but the recipe's method differs in that",
            where=where,
            do="remove it, or set align.method for all rounds",
        )


def _refuse_unread(recipe: Recipe) -> None:
    """Raise RecipeError for settings of rounds if the method learns once."""
    said = sorted(recipe.rounds.model_fields_set - {"number", "overrides"})
    unread = [name for name in said if getattr(recipe.rounds, name) != type(recipe.rounds).model_fields[name].default]
    if unread:
        raise RecipeError(
            f"{short(recipe.align.method)} has no rounds of samples and labels by itself",  # type: ignore[union-attr]
            where=", ".join(f"rounds.{name}" for name in unread),
            do="set rounds.number, or remove it",
        )


def _check(recipe: Recipe) -> None:
    if recipe.merge is not None:
        raise RecipeError(
            "each round starts from the model of the round before, so adapters of several rounds cannot be merged",
            where="merge",
            do="remove merge or rounds.number",
        )
    for stage in ("sample", "label"):
        if getattr(recipe, stage) is None:
            raise RecipeError(
                f"{stage} is null, but each round samples its answers and labels them",
                where=stage,
                do=f"remove {stage}: null, or remove the rounds",
            )
        if getattr(recipe.replace, stage):
            raise RecipeError(
                "each round makes its own",
                where=f"replace.{stage}",
                do="remove it, or set pairs as data.preferences, with rounds.first: data",
            )
    if recipe.data.completions:
        raise RecipeError(
            "each round samples its own answers, so nothing would learn from these",
            where="data.completions",
            do="remove it, or remove the rounds",
        )


def _with_defaults(config: Config, defaults: Mapping[str, Any]) -> Config:
    """A section with the paper's values for fields that the recipe does not set."""
    unset = {name: value for name, value in defaults.items() if name not in config.model_fields_set}
    if not unset:
        return config
    return type(config).model_validate(merged(config.model_dump(mode="json", exclude_unset=True), unset))


def paper_lines(recipe: Recipe) -> list[str]:
    """One line for each field that a method's paper sets in `sample` and `label`, and one for the reference of its rounds."""
    plan = planned_rounds(recipe)
    if plan is None or recipe.align is None:
        return []
    method = method_row(recipe.align.method)
    name, row = short(recipe.align.method), method.rounds or Iterated()
    whom = "the model before the first round" if plan.reference == "initial" else "the model that it starts from"
    compared = f", each compared with {whom} (rounds.reference: {plan.reference})" if method.needs_reference else ""
    lines = [f"align: {plan.number} rounds of {name}{compared}"]
    for section in ("sample", "label"):
        given = getattr(recipe, section).model_fields_set
        set_here = {key: value for key, value in getattr(row, section).items() if key not in given}
        lines += [
            f"{section}: {name} takes {section}.{key}: {value}, as in its paper" for key, value in set_here.items()
        ]
    if plan.judges_itself and recipe.label is not None and "judge" in recipe.label.model_fields_set:
        options = binding.parsed_options(recipe.label.judge, "label.judge")
        judge = f"the recipe's judge {short(recipe.label.judge.name)}"
        if getattr(options, "model", "") is None:
            lines.append(f"label: the policy of each round judges itself, as {judge}, which names no model")
        else:
            lines.append(
                f"label: {judge} labels; remove label.judge to let the policy judge itself as in the paper of {name}"
            )
    for step, own in recipe.rounds.overrides.items():
        other = own.get("method") if base_and_round(step)[0] == "align" else None
        if other and other != recipe.align.method and (its := method_row(other).rounds) and (its.sample or its.label):
            lines.append(
                f"{step}: {short(other)} uses the sample and label values of {name}, not those of its own paper"
            )
    return lines


def check_overrides(recipe: Recipe, made: Mapping[str, Any]) -> None:
    """Raise RecipeError if `rounds.overrides` names a step that no round has."""
    for name in recipe.rounds.overrides:
        if name not in made:
            base, _ = base_and_round(name)
            rounds = [step for step in made if base_and_round(step)[0] == base]
            raise RecipeError(
                f"the recipe has no step {name}",
                where="rounds.overrides",
                do=f"its rounds: {', '.join(rounds)}" if rounds else "raise rounds.number, or remove it",
            )
