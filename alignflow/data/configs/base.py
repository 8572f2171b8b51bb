"""What every stage config shares: strictness, and the two marks that decide how a field enters the cache key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from alignflow.data.chat_templates import RESERVED
from alignflow.data.errors import cut
from alignflow.data.paths import checked_path

SMALLEST = 1e-12
"""Numbers that are nearer 0 than this mean nothing anywhere in a recipe: arithmetic on them overflows or is lost."""
LONGEST_TEXT = 100_000
LARGEST_SEED = 2**63 - 1


class StageConfig(BaseModel):
    """Frozen and strict: an unknown key is an error, no value is converted to another type, and none changes after validation.

    Two conversions remain: an int where a float is asked for, and a list where the field is a tuple.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, protected_namespaces=(), strict=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _has_a_meaning(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name].annotation if info.field_name else None
        if get_origin(annotation) is Literal and not any(
            type(value) is type(choice) for choice in get_args(annotation)
        ):
            raise ValueError(_none_of(value, get_args(annotation)))
        for item in value if isinstance(value, list | tuple) else (value,):
            _check_scalar(item)
        return tuple(value) if isinstance(value, list) else value


def _none_of(value: Any, choices: tuple[Any, ...]) -> str:
    texts = isinstance(value, bool) and all(isinstance(choice, str) for choice in choices)
    advice = "; put it in quotes, since YAML reads on, off, yes and no as booleans" if texts else ""
    return f"must be one of {', '.join(map(str, choices))}{advice}"


def _check_scalar(value: Any) -> None:
    """Raise ValueError for a text or number that cannot be meant, whatever the field."""
    if isinstance(value, float) and 0 < abs(value) < SMALLEST:
        raise ValueError(f"is too near 0 to mean anything: write 0, or at least {SMALLEST:g}")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"is a text of more than {LONGEST_TEXT:,} characters")
        if found := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", value):
            raise ValueError(f"has the character {found.group()!r}, which no text has")


def seed_field(description: str, **arguments: Any) -> Any:
    """A seed: what every generator of random numbers takes, 63 bits."""
    return Field(default=0, ge=0, le=LARGEST_SEED, description=description, **arguments)


def _not_too_cold(value: float) -> float:
    if 0 < value < 0.001:
        raise ValueError(
            "is too near 0, where arithmetic overflows: write at least 0.001 (or 0 where that means greedy)"
        )
    return value


Temperature = Annotated[float, AfterValidator(_not_too_cold)]
"""What logits or scores are divided by: 0 for greedy where the field allows it, else at least 0.001."""


def _for_a_template(value: dict[str, Any]) -> dict[str, Any]:
    for name, item in value.items():
        if not name.isidentifier() or name in RESERVED:
            raise ValueError(f"{cut(name)!r} is no variable that can be set in a chat template")
        _check_scalar(item)
    return value


TemplateArguments = Annotated[dict[str, bool | int | float | str | None], AfterValidator(_for_a_template)]
"""Values for variables of a chat template; names that every template is given anyway are refused."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
"""A name, a branch or another short text that is not empty."""


def runtime_field(**arguments: Any) -> Any:
    """A field that stays out of the cache key: it changes speed or rounding but not the result, or enters by what it names."""
    return Field(**arguments, json_schema_extra={"in_key": False})


_CONTENT = "content enters the cache key: "

ContentPath = Annotated[str, f"{_CONTENT}path", AfterValidator(checked_path)]
"""A local path or Hub id whose bytes enter the cache key instead of its name."""

ModelPath = Annotated[str, f"{_CONTENT}model", AfterValidator(checked_path)]
"""As `ContentPath`; a local directory must hold a model, which is checked when the key is computed."""

ConstitutionPath = Annotated[str, f"{_CONTENT}constitution", AfterValidator(checked_path)]
"""A built-in constitution or the path of one; its bytes and those of its lexicons enter the cache key."""

PrinciplesPath = Annotated[str, f"{_CONTENT}principles", AfterValidator(checked_path)]
"""A built-in file of principles in words, or the path of one; its bytes enter the cache key."""

QuestionPath = Annotated[str, f"{_CONTENT}question", AfterValidator(checked_path)]
"""A built-in question of a judge or the path of a Jinja file; its bytes enter the cache key."""

NameOrFile = Annotated[str, f"{_CONTENT}name_or_file", Field(min_length=1)]
"""The path of a file whose bytes enter the cache key, or any other text, which enters as it is."""


def in_key(config_type: type[BaseModel], name: str) -> bool:
    """Whether field `name` of `config_type` is part of the cache key."""
    extra = config_type.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("in_key") is False)


def content_kind(config_type: type[BaseModel], name: str) -> str:
    """What field `name` of `config_type` names whose bytes enter the key in its place: path, constitution, ...; empty for none."""
    found = re.search(rf"{_CONTENT}(\w+)", repr(get_type_hints(config_type, include_extras=True)[name]))
    return found[1] if found else ""
