"""Writes docs/recipe.md and docs/catalogue.md from the configs and the catalogue themselves. Imports no torch.

`python docs/make_tables.py` writes both; `--check` writes nothing and exits 1 where a file is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

import page_main
from alignflow.data import catalogue
from alignflow.data.catalogue import STAGES, Part, Stage
from alignflow.data.configs.base import content_kind, in_key
from alignflow.data.configs.recipe import EngineConfig, Recipe
from alignflow.data.constitution import BUILT_IN, read_constitution
from alignflow.data.run import Runtime
from alignflow.models.judges.principles import PRINCIPLES
from alignflow.tasks.launch.runtime import key_components

DIRECTORY = Path(__file__).parent
NOTE = "<!-- Written by docs/make_tables.py: do not edit, run `make tables`. -->"
NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Any: "any value",
    NoneType: "`null`",
}
SIGNS = {
    "ge": ">=",
    "gt": ">",
    "le": "<=",
    "lt": "<",
    "pattern": "matches",
    "min_length": "length >=",
    "max_length": "length <=",
}
RESOLVED = {"training": "engine"}  # fields of the engine that stand in the key under another name

RECIPE_INTRODUCTION = """\
# The recipe, field by field

A recipe is a YAML file. Every field but the `path` of a source has a default, so a recipe holds only what differs. An unknown key
is an error. Paths start at the recipe's directory. `alignflow run RECIPE --set SECTION.FIELD=VALUE` changes one value.

The column `key` says whether a field enters the cache key of its stage. A change of a field that does runs the stage again:

- `yes`: its value.
- `content`: the bytes of what it names, or the commit of a Hub id, and not the name.
- `resolved`: the value that `auto` came out as, for the stages that it matters to.
- `its fields`: the fields of what stands there, each in its own way.
- `no`: it changes speed, logging or rounding.\
"""
CATALOGUE_INTRODUCTION = """\
# The catalogue

What a recipe may name. The same tables are in `alignflow/data/catalogue/`; `alignflow stages`, `methods`, `judges`, `formats`
and `evaluators` print them, and with a name also the version of that part, which is in the cache key of the stages that use it.\
"""


KINDS_INTRODUCTION = """\
### Kinds of principles

A principle of a constitution has `name`, `kind`, `options`, and either a `weight` in the mean or `veto: true`. Each kind scores an
answer from 0 to 1. [judges.md](judges.md) says what they cannot see.\
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def prose(text: str | None) -> str:
    """A description as Markdown: what looks like a tag is text."""
    return (text or "").replace("<", "&lt;")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The configs that a field's type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def places(
    config: type[BaseModel] = Recipe, place: str = "", found: dict[Any, list[str]] | None = None
) -> dict[Any, list[str]]:
    """Every config of the recipe, with the places at which it stands."""
    found = {} if found is None else found
    found.setdefault(config, []).append(place)
    for name, field in config.model_fields.items():
        for model in models_in(field.annotation):
            places(model, f"{place}.{name}" if place else name, found)
    return found


PLACES = places()


def heading(config: type[BaseModel]) -> str:
    """The name of a config's section: where it stands, or what it is where it stands at several places."""
    where = PLACES.get(config, [])  # what stands in the options of a method is no section of the recipe
    return where[0] if len(where) == 1 and "." not in where[0] else config.__name__.removesuffix("Config").lower()


def shown_type(annotation: Any) -> str:
    """A field's type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in NAMES:
        return NAMES[annotation]
    if origin is Annotated:
        return shown_type(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(map(shown_type, arguments))
    if origin is dict:
        return "mapping"
    if origin is tuple:
        return (
            f"list of {shown_type(arguments[0])}"
            if arguments[-1] is Ellipsis
            else f"list of exactly {len(arguments)}: {shown_type(arguments[0])}"
        )
    return (
        f"[{heading(annotation)}](recipe.md#{heading(annotation)})"
        if annotation in PLACES
        else f"{heading(annotation)}: {', '.join(annotation.model_fields)}"
    )


def shown_default(field: Any) -> str:
    """A default as one would write it in YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{yaml.safe_dump(_plain(value), default_flow_style=True, width=1000).splitlines()[0]}`"


def _plain(value: Any) -> Any:
    """A default as lists and mappings."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value


def bounds(field: Any) -> str:
    """A field's bounds; empty where it has none."""
    found = [
        (name, getattr(part, name))
        for part in field.metadata
        for name in SIGNS
        if getattr(part, name, None) is not None
    ]
    return "".join(f", {SIGNS[name]} {f'`{value}`' if name == 'pattern' else value}" for name, value in found)


def key_cell(config: type[BaseModel], name: str) -> str:
    """Whether and how a field enters the cache key."""
    annotation = config.model_fields[name].annotation
    if models_in(annotation) or get_origin(annotation) is dict:
        return "its fields"
    if config is Recipe:  # no stage's config: it reaches the keys through the stages' own fields of that name
        return "through the stages" if any(name in stage.config.model_fields for stage in STAGES.values()) else "no"
    if config is EngineConfig:
        known = key_components(Stage("", "", trains=True, generates=True), Runtime())
        return "resolved" if f"resolved.{RESOLVED.get(name, name)}" in known else "no"
    return "no" if not in_key(config, name) else "content" if content_kind(config, name) else "yes"


def fields(config: type[BaseModel], with_key: bool = True) -> str:
    """The table of a config's fields."""
    rows = [
        [
            f"`{name}`",
            shown_default(field),
            shown_type(field.annotation) + bounds(field),
            *([key_cell(config, name)] if with_key else []),
            prose(field.description),
        ]
        for name, field in config.model_fields.items()
    ]
    return table(["field", "default", "value", *(["key"] if with_key else []), "meaning"], rows)


def recipe_page() -> str:
    """docs/recipe.md."""
    parts = [NOTE, RECIPE_INTRODUCTION]
    for config, where in PLACES.items():
        title = heading(config) if where[0] else "top level"
        listed = (
            f" Stands at {', '.join(f'`{place}`' for place in where)}." if title not in ("top level", where[0]) else ""
        )
        parts += [f"## {title}", (config.__doc__ or "").splitlines()[0] + listed, fields(config)]
    return "\n\n".join(parts) + "\n"


def rows_of(rows: Mapping[str, Part], *columns: str) -> str:
    """One table of the catalogue; a column is an attribute of its rows."""

    def cell(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return (
            ", ".join(f"`{item}`" for item in value)
            if isinstance(value, tuple)
            else ""
            if value is None
            else str(value)
        )

    body = [
        [f"`{name}`", prose(row.summary), *(cell(getattr(row, column)) for column in columns), f"`{row.address}`"]
        for name, row in rows.items()
    ]
    return table(["name", "summary", *(column.replace("_", " ") for column in columns), "function"], body)


def options_of(configs: Mapping[str, type[BaseModel]], title: str, with_key: bool = True) -> Iterator[str]:
    """A section per row that has options of its own."""
    for name, config in configs.items():
        if config.model_fields:
            yield f"### {title} `{name}`\n\n{(config.__doc__ or '').splitlines()[0]}\n\n{fields(config, with_key)}"


def constitutions() -> str:
    """The built-in constitutions."""
    files = {path.stem: read_constitution(path) for path in sorted(BUILT_IN.glob("*.yaml"))}
    rows = [
        [f"`{name}`", file["description"], ", ".join(f"`{entry['kind']}`" for entry in file["principles"])]
        for name, file in files.items()
    ]
    return table(["name", "summary", "kinds of its principles"], rows)


def catalogue_page() -> str:
    """docs/catalogue.md."""
    beyond = {name: row.config for name, row in STAGES.items() if row.config not in PLACES}
    methods, judges = catalogue.METHODS, catalogue.JUDGES
    parts = [
        NOTE,
        CATALOGUE_INTRODUCTION,
        "## Stages\n\nA trailing `?` marks an input that may be missing. [recipe.md](recipe.md) has the fields of each.",
        rows_of(STAGES, "takes", "makes", "trains", "generates"),
        *options_of(beyond, "Fields of"),
        "## Methods\n\nNames for `align.method`; the options of one go to `align.options`. `family` is a row of the families below, `paper` a number of arXiv.\n"
        "In a formula rho is log pi - log pi_ref summed over an answer's tokens, lp the policy's log-probability likewise, avg a mean over\n"
        "tokens, w and l the chosen and the rejected answer, s the sigmoid.",
        rows_of(methods, "family", "needs_reference", "paper", "formula"),
        *options_of({name: row.options for name, row in methods.items()}, "Options of"),
        "## Generators\n\nNames for `engine.generator`, `sample.generator`, `evaluate.generator` and the `generator` of a judge: what runs the model.",
        rows_of(catalogue.GENERATORS),
        *options_of({name: row.options for name, row in catalogue.GENERATORS.items()}, "Options of"),
        "## Judges\n\nNames for `label.judge.name` and `evaluate.judges`. `needs` is what a judge falls back on where its options name no model.",
        rows_of(judges, "needs"),
        *options_of({name: row.options for name, row in judges.items()}, "Options of"),
        "### Constitutions\n\nBuilt-in names for `constitution` of the judge `rubric`. A file of the same form can be given by its path.",
        constitutions(),
        KINDS_INTRODUCTION,
        table(["kind", "summary"], [[f"`{name}`", prose(kind.summary)] for name, kind in PRINCIPLES.items()]),
        *options_of({name: kind.options for name, kind in PRINCIPLES.items()}, "Options of the kind", with_key=False),
        "## Formats\n\nNames for the `format` of a source. `kinds` are the tables that its rows can become.",
        rows_of(catalogue.FORMATS, "kinds"),
        "## Evaluators\n\nNames for `evaluate.evaluators`. One whose `needs` the recipe lacks is left out, and the result says so.",
        rows_of(catalogue.EVALUATORS, "needs"),
        "## Advantages\n\nNames for `advantage` of methods that sample while they train.",
        rows_of(catalogue.ADVANTAGES),
        "## Policy losses\n\nNames for `policy_loss` of such methods.",
        rows_of(catalogue.POLICY_LOSSES),
        "## Rewards\n\nNames in the list `rewards` of such methods; `package.module:function` is a function of your own.",
        rows_of(catalogue.REWARDS),
        *options_of({name: row.options for name, row in catalogue.REWARDS.items()}, "Options of"),
        "## Verifiers\n\nNames for the `verifier` of a reward, for `evaluate.verifiable`, and for the column `verifier` of prompts. `needs` is the column of a row that it reads.",
        rows_of(catalogue.VERIFIERS, "needs"),
        *options_of({name: row.options for name, row in catalogue.VERIFIERS.items()}, "Options of"),
        "## Families\n\nWhat the methods of a family learn from. `reference.family` names one, and `alignflow methods` shows it for each method.",
        rows_of(catalogue.FAMILIES, "columns", "answers", "generates"),
    ]
    return "\n\n".join(parts) + "\n"


PAGES = {"recipe.md": recipe_page, "catalogue.md": catalogue_page}


def main(arguments: Sequence[str], directory: Path = DIRECTORY) -> int:
    """Write the pages, or with --check say what is out of date; returns the exit status."""
    return page_main.main(PAGES, __doc__, arguments, directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
