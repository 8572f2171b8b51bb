"""A recipe from a YAML file: strict, with paths relative to the file, and errors that name the nearest valid key."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from alignflow.data import binding, catalogue, own_code, own_module
from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.configs.base import content_kind
from alignflow.data.configs.explaining import explain
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.inputs import SOURCE_KINDS
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.online_preference import NashOptions, PairedOptions
from alignflow.data.configs.overriding import overridden, round_setting
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.rewards import FunctionRewardOptions
from alignflow.data.configs.settings import apply_setting, parse_setting
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError, cut, quoted
from alignflow.data.own_methods import is_own, method_row
from alignflow.data.paths import is_file, is_there
from alignflow.data.step_names import base_of
from alignflow.data.update_choices import check_importance, check_update
from alignflow.data.yaml_text import YamlError, read_yaml_file

Config = TypeVar("Config", bound=BaseModel)

STAGES = "`alignflow stages STAGE` lists every field with its bounds"


def load_recipe(path: Path, settings: Iterable[str | tuple[str, Any]] = ()) -> Recipe:
    """Read a recipe, with `settings` (`align.options.beta=0.2`, or a place and its value) applied over the file.

    Raises:
        RecipeError: the file is missing or not YAML, or a key or value is wrong.
    """
    where = cut(str(path))
    try:
        content = read_yaml_file(path)
    except FileNotFoundError:
        raise RecipeError("no such recipe", where=where, do="`alignflow new` writes one") from None
    except YamlError as error:
        raise RecipeError(f"not readable as YAML: {error}", where=where, do="correct the file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(
            f"the recipe cannot be read: {reason}", where=where, do="check the path and its permissions"
        ) from None
    if not isinstance(content, dict):
        raise RecipeError(
            "not a recipe: it must be a mapping", where=where, do="`alignflow new` writes a commented one"
        )
    return changed_recipe(content, settings, path.absolute().parent, where)


def changed_recipe(
    content: dict[str, Any], settings: Iterable[str | tuple[str, Any]], base: Path, where: str
) -> Recipe:
    """The recipe of a content with settings over it, paths starting at `base`, and the user's own code found; raises RecipeError."""
    for setting in settings:
        apply_to_recipe(content, *(parse_setting(setting) if isinstance(setting, str) else setting))
    recipe = parse_recipe(content, base, where)
    check_own_code(recipe)
    return recipe


def recipe_name(text: str, otherwise: str) -> str:
    """A name of a run that is made of a text, such as that of a file; `otherwise` where no character of it can stand in one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or otherwise


def apply_to_recipe(content: dict[str, Any], name: str, value: Any) -> None:
    """Put a setting where it belongs: that of a round, `label.2.judge.name`, among what rounds have otherwise. Raises RecipeError."""
    found = round_setting(name)
    if found is None:
        apply_setting(content, name, value)
        return
    step, field = found
    rounds = content.setdefault("rounds", {})
    if not isinstance(rounds, dict) or not isinstance(rounds.setdefault("overrides", {}), dict):
        raise RecipeError(
            "not a mapping of steps", where="rounds.overrides", do="write for example label.2: {judge: {name: rubric}}"
        )
    if not isinstance(rounds["overrides"].get(step), dict):
        rounds["overrides"][step] = {}
    apply_setting(rounds["overrides"][step], field, value)


OPTIONS_OF_METHODS = {"options_of": {name: tuple(row.options.model_fields) for name, row in catalogue.METHODS.items()}}
"""Context of validation: which options each method has, for messages about fields that became options."""


def parse_recipe(content: Mapping[str, Any], base: Path, where: str) -> Recipe:
    """Validate what a recipe says and make its paths absolute, starting at `base`; raises RecipeError.

    The user's own code that it names is not looked for: `changed_recipe` does that for a recipe that is used here.
    """
    try:
        recipe = Recipe.model_validate(dict(content), context=OPTIONS_OF_METHODS)
    except ValidationError as error:
        raise explain(error, Recipe, where, STAGES) from None
    check_names(recipe)
    recipe = resolve_overrides(resolve_paths(recipe, base), base)
    check_template(recipe.model.chat_template)
    return recipe


def resolve_overrides(recipe: Recipe, base: Path) -> Recipe:
    """The recipe with absolute paths in what its rounds have otherwise, checked as fields of their sections; raises RecipeError."""
    changed: dict[str, dict[str, Any]] = {}
    for name, given in recipe.rounds.overrides.items():
        section = base_of(name)
        kind = catalogue.STAGES[section].config
        own = getattr(recipe, section) or kind()
        whole = resolve_paths(overridden(own, given, name), base).model_dump(mode="json", exclude_unset=True)
        changed[name] = {field: whole[field] for field in given}
    if not changed:
        return recipe
    return recipe.model_copy(update={"rounds": recipe.rounds.model_copy(update={"overrides": changed})})


def check_names(recipe: Recipe) -> None:
    """Bind every name of the catalogue that the recipe uses, so that a typo fails before anything runs."""
    own_loss = recipe.align is not None and is_own(recipe.align.method)  # `check_own_code` looks at that
    if recipe.align is not None and not own_loss:
        check_unused(recipe.align)
    for section in ("label", "judge_eval", "evaluate") if own_loss else ("align", "label", "judge_eval", "evaluate"):
        config = getattr(recipe, section)
        for where, part in binding.configs_in(config, section) if config is not None else ():
            if isinstance(part, OnlineOptions):
                check_update(part, where)
            elif isinstance(part, NashOptions):
                check_importance(part, where)
            elif isinstance(part, PairedOptions):
                catalogue.look_up(catalogue.METHODS, part.pair_loss, f"{where}.pair_loss")
    for name in recipe.evaluate.evaluators if recipe.evaluate is not None else ():
        catalogue.look_up(catalogue.EVALUATORS, name, "evaluate.evaluators")
    for kind in SOURCE_KINDS:
        for index, source in enumerate(getattr(recipe.data, kind)):
            if source.format != "auto":
                catalogue.look_up(catalogue.FORMATS, source.format, f"data.{kind}.{index}.format")


def check_own_code(recipe: Recipe) -> None:
    """Find every judge, reward and loss of the user's own that the recipe names, without running it; raises RecipeError."""
    if recipe.align is not None and is_own(recipe.align.method):
        check_unused(recipe.align)
    for section in ("align", "label", "judge_eval", "evaluate"):
        config = getattr(recipe, section)
        for where, part in binding.configs_in(config, section) if config is not None else ():
            if isinstance(part, JudgeConfig) and ":" in part.name:
                own_code.check_judge(part.name, f"{where}.name")
            elif isinstance(part, FunctionRewardOptions):
                own_code.check_reward(part.function, f"{where}.function")


def check_template(template: str) -> None:
    """Refuse a chat template that is no known name, no file and no Jinja text; raises RecipeError."""
    known = ("auto", *TEMPLATES)
    if template not in known and "{" not in template and not is_file(Path(template)):
        raise RecipeError(
            f"no chat template {quoted(template)}", where="model.chat_template", do=catalogue.suggest(template, known)
        )


def check_unused(align: AlignConfig) -> None:
    """Refuse fields of `align` that the trainer of its method would leave unread, or that its loss has itself; raises RecipeError."""
    method = method_row(align.method)
    for name in method.learns_from().unread:
        if name in align.model_fields_set and getattr(align, name) != type(align).model_fields[name].default:
            raise RecipeError(
                f"the method {own_module.short(align.method)!r} has no use for it",
                where=f"align.{name}",
                do=f"`alignflow methods {align.method}` lists its options",
            )
    if align.sft_coefficient and method.nll_option:
        raise RecipeError(
            f"the loss of {own_module.short(align.method)!r} has the chosen answers' NLL itself, and would count it twice",
            where="align.sft_coefficient",
            do=f"leave it out; align.options.{method.nll_option} sets how much the NLL weighs",
        )


def resolve_paths(config: Config, base: Path) -> Config:
    """A copy of a config in which every content path that exists relative to `base`, and every file of the user's own code, is absolute."""
    if not isinstance(config, BaseModel):
        return config
    kind = type(config)
    changes: dict[str, Any] = {}
    for name in kind.model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            changes[name] = resolve_paths(value, base)
        elif isinstance(value, tuple):
            a_path = content_kind(kind, name)
            changes[name] = tuple(
                _absolute(item, base) if a_path and isinstance(item, str) else resolve_paths(item, base)
                for item in value
            )
        elif own_module.may_name_code(kind, name):
            changes[name] = own_module.absolute(value, base)
        elif isinstance(value, str) and content_kind(kind, name):
            changes[name] = _absolute(value, base, content_kind(kind, name) == "path" and glob.has_magic(value))
        elif name == "options" and isinstance(value, dict):
            changes[name] = _resolved_options(config, value, base)
    changes = {name: value for name, value in changes.items() if value is not getattr(config, name)}
    fields = set(config.model_fields_set)
    copy = config.model_copy(update=changes)
    copy.__pydantic_fields_set__.intersection_update(fields)  # a path made absolute was not set by the user
    return copy


def _resolved_options(config: BaseModel, options: dict[str, Any], base: Path) -> dict[str, Any]:
    """Options with absolute content paths, at any depth where a row of the catalogue says which fields are paths."""
    own_loss = isinstance(config, AlignConfig) and is_own(config.method)  # its file may not be here
    parsed = None if own_loss else binding.parsed_options(config, "options")
    if parsed is not None:
        return resolve_paths(parsed, base).model_dump(mode="json", exclude_unset=True)
    return {key: _absolute(item, base) if isinstance(item, str) else item for key, item in options.items()}


def _absolute(value: str, base: Path, pattern: bool = False) -> str:
    if "\n" in value:  # a template that is written out
        return value
    path = Path(os.path.expanduser(value))
    looks_like_path = pattern or value.startswith((".", "/", "~")) or is_there(base / path)
    if looks_like_path and is_file(
        base / path
    ):  # a link keeps its own name: what a link of the Hub's cache leads to has no suffix
        return str((base / path).parent.resolve() / path.name)
    return str((base / path).resolve()) if looks_like_path else value
