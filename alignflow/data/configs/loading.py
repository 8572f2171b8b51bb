"""A recipe from a YAML file: strict, with paths relative to the file, and errors that name the nearest valid key."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from alignflow.data import binding, catalogue, own_module
from alignflow.data.configs.base import content_kind
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError


def load_recipe(path: Path, settings: Iterable[str | tuple[str, Any]] = ()) -> Recipe:
    """Read a recipe, with `settings` (`align.beta=0.2`, or a place and its value) applied over the file.

    Raises:
        RecipeError: the file is missing or not YAML, or a key or value is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError("no such recipe", where=str(path), do="`alignflow new` writes one") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"not readable as YAML: {' '.join(str(error).split())}", where=str(path), do="correct the file") from None
    if content is None or not isinstance(content, dict):
        raise RecipeError("not a recipe: it must be a mapping", where=str(path), do="`alignflow new` writes a commented one")
    return changed_recipe(content, settings, path.absolute().parent, str(path))


def changed_recipe(content: dict[str, Any], settings: Iterable[str | tuple[str, Any]], base: Path, where: str) -> Recipe:
    """The recipe of a content with settings over it, paths starting at `base`; raises RecipeError."""
    for setting in settings:
        _apply(content, *(parse_setting(setting) if isinstance(setting, str) else setting))
    return parse_recipe(content, base, where)


def parse_recipe(content: Mapping[str, Any], base: Path, where: str) -> Recipe:
    """Validate a recipe and make its paths absolute, starting at `base`; raises RecipeError."""
    try:
        recipe = Recipe.model_validate(dict(content))
    except ValidationError as error:
        raise _explain(error, where) from None
    check_names(recipe)
    return resolve_paths(recipe, base)


def check_names(recipe: Recipe) -> None:
    """Bind every name of the catalogue that the recipe uses, so that a typo fails before anything runs."""
    if recipe.align is not None:
        check_unused(recipe.align)
    for section in ("align", "label", "evaluate"):
        config = getattr(recipe, section)
        for where, part in binding.configs_in(config, section) if config is not None else ():
            if isinstance(part, OnlineOptions):
                catalogue.look_up(catalogue.ADVANTAGES, part.advantage, f"{where}.advantage")
                catalogue.look_up(catalogue.POLICY_LOSSES, part.policy_loss, f"{where}.policy_loss")
    for name in recipe.evaluate.evaluators if recipe.evaluate is not None else ():
        catalogue.look_up(catalogue.EVALUATORS, name, "evaluate.evaluators")
    for kind in ("demonstrations", "prompts", "preferences", "completions", "unpaired", "evaluation", "general"):
        for index, source in enumerate(getattr(recipe.data, kind)):
            if source.format != "auto":
                catalogue.look_up(catalogue.FORMATS, source.format, f"data.{kind}.{index}.format")


def check_unused(align: AlignConfig) -> None:
    """Refuse common fields of `align` that its method would leave unread; raises RecipeError."""
    method = catalogue.look_up(catalogue.METHODS, align.method, "align.method")
    for name in method.ignores:
        if name in align.model_fields_set and getattr(align, name) != type(align).model_fields[name].default:
            raise RecipeError(
                f"the method {align.method!r} has no use for it",
                where=f"align.{name}",
                do=f"`alignflow methods {align.method}` lists its options",
            )


def resolve_paths(config: Any, base: Path) -> Any:
    """A copy of a config in which every content path that exists relative to `base`, and every file of the user's own code, is absolute."""
    if not isinstance(config, BaseModel):
        return config
    kind, changes = type(config), {}
    for name in kind.model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            changes[name] = resolve_paths(value, base)
        elif isinstance(value, tuple):
            changes[name] = tuple(resolve_paths(item, base) for item in value)
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
    parsed = binding.parsed_options(config, "options")
    if parsed is not None:
        return resolve_paths(parsed, base).model_dump(mode="json", exclude_unset=True)
    return {key: _absolute(item, base) if isinstance(item, str) else item for key, item in options.items()}


def _absolute(value: str, base: Path, pattern: bool = False) -> str:
    path = Path(value).expanduser()
    looks_like_path = pattern or value.startswith((".", "/", "~")) or (base / path).exists()
    return str((base / path).resolve()) if looks_like_path and "\n" not in value else value


def parse_setting(setting: str) -> tuple[str, Any]:
    """The place and the value of `a.b=value`; the value is YAML. Raises RecipeError."""
    name, separator, text = setting.partition("=")
    if not separator or not name:
        raise RecipeError(f"{setting!r} is not of the form name=value", where="--set", do="for example --set align.beta=0.2")
    try:
        return name, yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"{text!r} is not a YAML value", where=f"--set {name}", do="quote it") from None


def _apply(content: dict[str, Any], name: str, value: Any) -> None:
    """Put a value at the place `a.b` of the content."""
    place: Any = content
    *parents, last = name.split(".")
    for parent in parents:
        if isinstance(place, list):
            place = place[_index(parent, place, name)]
            continue
        if not isinstance(place.get(parent), dict | list):
            place[parent] = {}
        place = place[parent]
    if isinstance(place, list):
        place[_index(last, place, name)] = value
    else:
        place[last] = value


def _index(text: str, items: list[Any], name: str) -> int:
    if text.isdigit() and int(text) < len(items):
        return int(text)
    raise RecipeError(f"{text!r} is not a place in a list of {len(items)}", where=f"--set {name}", do="places count from 0")


def _explain(error: ValidationError, where: str) -> RecipeError:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(first["loc"][:-1])
        return RecipeError(f"unknown key {location!r}{more}", where=where, do=catalogue.suggest(str(first["loc"][-1]), known))
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool | type(None)) else ""
    return RecipeError(f"{location}: {message}{shown}{more}", where=where, do="`alignflow stages STAGE` lists every field with its bounds")


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the config that stands at a place of the recipe."""
    kind: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = kind.model_fields[part].annotation
        kind = next(member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel))
    return list(kind.model_fields)


def _members(annotation: Any) -> list[Any]:
    inner = [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation, *inner]
