"""Forms: what a person fills in to run a flow, made from the recipe's own configs. No Prefect, no torch.

A form is flat, and each of its fields stands for one place of the recipe (`align.judge.name`). A field that is left
empty is as the recipe file says. The page that draws a form has trouble with unions and with optional models, so that a
form has none: a nested config is drawn field by field, an optional one or a list is a piece of JSON.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from alignflow.data import catalogue
from alignflow.data.configs.bounds import bounds_of
from alignflow.data.configs.recipe import Recipe
from alignflow.data.own_module import may_name_code
from alignflow.flows.steps import SECTIONS
from alignflow.tasks.keys.key import BINDINGS

STANDS_IN = {"adopt_reward": "reward", "reward_ensemble": "reward"}
"""Stages that do another one's step, where the user brings the result or several become one: they have no name of their own in a run."""
FILLED = frozenset({"corpus", "labelling_judge", "found"})
"""Fields that are filled from elsewhere in the recipe, or by the run."""
COMMON = (
    "align.method",
    "align.options",
    "align.learning_rate",
    "align.num_train_epochs",
    "align.max_steps",
    "label.judge.name",
    "label.judge.options",
    "label.pairs_per_prompt",
    "sft.learning_rate",
    "sft.num_train_epochs",
    "reward.learning_rate",
    "reward.num_train_epochs",
    "sample.n",
    "sample.temperature",
    "sample.max_new_tokens",
    "evaluate.max_prompts",
    "data.max_length",
    "seed",
)
"""Places of the recipe that people change most, in the order in which forms show them. The form of the whole pipeline shows these alone, any
other is given as NAME=VALUE; the form of a stage shows its own ones of them first."""
VARIED = ("align.method", "align.learning_rate", "align.options")
"""Places of the recipe that the members of a sweep differ in."""

AS_IN_THE_RECIPE = "as in the recipe"
UNSET = re.compile(r"; empty(?: or (?P<or>[^:]+))?: (?P<meaning>[^.;]+)")
"""What a description says of a value that is not set."""
YesOrNo = Literal["yes", "no"]


class Fields(BaseModel):
    """What is drawn as one box of a form: an unknown field is an error, and an empty one is not there when it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Form(Fields):
    """A form over a recipe; `places` says which place each field is, and `switches` which are true or false there."""

    places: ClassVar[dict[str, str]] = {}
    switches: ClassVar[frozenset[str]] = frozenset()

    def given(self) -> list[tuple[str, Any]]:
        """The places that were filled in, and their values."""
        filled = self.model_dump(mode="json", exclude_unset=True)
        return [
            (self.places[name], value == "yes" if name in self.switches else value) for name, value in filled.items()
        ]


def empty_unless_given(**arguments: Any) -> Any:
    """A field that may be left empty and says so in its schema by having no default: the page draws an empty box."""
    return Field(default=None, json_schema_extra=_without_default, **arguments)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


@dataclass(frozen=True)
class Leaf:
    """A field of a config that a form can show: its place in the recipe, the config that holds it, and the field."""

    place: str
    holder: type[BaseModel]
    field: FieldInfo


def leaves(config: type[BaseModel], place: str = "") -> Iterator[Leaf]:
    """Every field of a config and of the configs that it always has, in order."""
    for name, field in config.model_fields.items():
        if name in FILLED:
            continue
        inner = f"{place}.{name}" if place else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, inner)
        else:
            yield Leaf(inner, config, field)


@cache
def stage_form(stage: str) -> type[Form]:
    """The form of one stage: its config; without fields for a stage that another one's section configures."""
    section = SECTIONS.get(stage, stage)
    config = catalogue.STAGES[stage].config
    shown = list(leaves(config, section)) if section in Recipe.model_fields else []
    inherited = {name for base in config.__bases__ for name in getattr(base, "model_fields", ())}
    own = [
        name for name in config.__annotations__ if name not in inherited
    ]  # what this stage alone has comes before the rest

    def rank(leaf: Leaf) -> tuple[int, int]:
        name = leaf.place.split(".")[1]
        changed = COMMON.index(leaf.place) if leaf.place in COMMON else len(COMMON)
        return changed, own.index(name) if name in own else len(own)

    shown.sort(key=rank)
    return make_form(f"{stage.capitalize()}Settings", shown, prefix=f"{section}.")


@cache
def pipeline_form() -> type[Form]:
    """The form of the whole pipeline: the fields that are changed most."""
    return places_form("PipelineSettings", COMMON)


@cache
def sweep_form() -> type[Form]:
    """The form of a sweep: that of the pipeline without what its members differ in."""
    return places_form("SweepSettings", [place for place in COMMON if place not in VARIED])


def _recipe_leaves() -> Iterator[Leaf]:
    for name, field in Recipe.model_fields.items():
        config = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_config(kind)), None)
        if config is None:
            yield Leaf(name, Recipe, field)
        else:
            yield from leaves(config, name)


def places_form(name: str, places: Iterable[str], otherwise: str = AS_IN_THE_RECIPE) -> type[Form]:
    """A form of some places of the recipe; `otherwise` says what an empty field is."""
    known = {leaf.place: leaf for leaf in _recipe_leaves()}
    return make_form(name, [known[place] for place in places], otherwise=otherwise)


def make_form(name: str, shown: Iterable[Leaf], prefix: str = "", otherwise: str = AS_IN_THE_RECIPE) -> type[Form]:
    """A form with one field per leaf; fields are called as their place without `prefix`, with `_` for dots."""
    fields: dict[str, Any] = {}
    places: dict[str, str] = {}
    leaves_shown = list(shown)
    for leaf in leaves_shown:
        short = leaf.place.removeprefix(prefix)
        field_name = short.replace(".", "_")
        places[field_name] = leaf.place
        kind: Any = Annotated[form_type(leaf), None, *_bounds(leaf.field)]
        fields[field_name] = (
            kind | SkipJsonSchema[None],  # type: ignore[misc]  # to a type checker it is Annotated, which takes no None
            empty_unless_given(title=short, description=described(leaf, otherwise)),
        )
    form = create_model(name, __base__=Form, **fields)
    form.places = places
    form.switches = frozenset(
        name for name, leaf in zip(fields, leaves_shown, strict=True) if form_type(leaf) is YesOrNo
    )
    return form


def form_type(leaf: Leaf) -> Any:
    """The type of a field in a form: without None, with the catalogue's names as choices, JSON for what has fields of its own."""
    name = leaf.place.rpartition(".")[2]
    for holder, field, table in BINDINGS:
        if issubclass(leaf.holder, holder) and field == name and table in catalogue.TABLES:
            choices = Literal[tuple(catalogue.TABLES[table])]  # type: ignore[valid-type]
            return choices if leaf.field.annotation is str else list[choices]  # type: ignore[valid-type]
    return _plain(leaf.field.annotation)


def _plain(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        return _plain(members[0]) if len(members) == 1 else Any
    if annotation is bool:  # a switch cannot be empty, and a list does not show which value `false` is
        return YesOrNo
    if _is_config(annotation) or origin is dict:
        return dict[str, Any]
    if origin is tuple:
        return list[_plain(get_args(annotation)[0])]  # type: ignore[misc]
    return annotation


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _bounds(field: FieldInfo) -> list[Any]:
    """The limits among a field's marks: what the API refuses by the schema."""
    return [part for part in field.metadata if any(hasattr(part, name) for name in ("ge", "gt", "le", "lt", "pattern"))]


def described(leaf: Leaf, otherwise: str = AS_IN_THE_RECIPE) -> str:
    """What a field means, what it takes, and what it is where it is left empty."""
    field = leaf.field
    text, unset = _without_unset(field.description or "")
    if otherwise and may_name_code(leaf.holder, leaf.place.rpartition(".")[2]):  # the list of choices has none of these
        text = f"{text.removesuffix('.')}. Your own is written under more, as {leaf.place}=file.py:NAME."
    if limits := bounds_of(field) if get_origin(field.annotation) is not Literal else "":
        text = f"{text.removesuffix('.')} ({limits})."
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = unset if default in (None, (), {}) or isinstance(default, BaseModel) else _text(default)
    if otherwise:
        shown = f"{otherwise} (by default: {shown})" if shown else otherwise
    return f"{text} Empty: {shown}." if shown else text


def _without_unset(text: str) -> tuple[str, str]:
    """A description without what it says of an empty value, which in a form is another thing, and what that was."""
    if not (found := UNSET.search(text)):
        return text, ""
    return text.replace(found.group(), f"; {found['or']}: {found['meaning']}" if found["or"] else ""), found["meaning"]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(_in_form(value))


def prefilled(form: type[Form], settings: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Settings as the fields of a form, and those that it has no field for as NAME=VALUE."""
    names = {place: name for name, place in form.places.items()}
    fields: dict[str, Any] = {}
    others: list[str] = []
    for place, value in settings:
        if place in names and value is not None:
            fields[names[place]] = _in_form(value)
        else:
            others.append(f"{place}={as_yaml(value)}")
    return fields, others


def _in_form(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def as_yaml(value: Any) -> str:
    """A value in one line, as `--set` reads it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()
