"""What every stage config shares: strictness, and the two marks that decide how a field enters the cache key."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field


class StageConfig(BaseModel):
    """Frozen and strict: an unknown key is an error, and a value never changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def runtime_field(**arguments: Any) -> Any:
    """A field that stays out of the cache key: it changes speed or rounding but not the result, or enters by what it names."""
    return Field(**arguments, json_schema_extra={"in_key": False})


_CONTENT = "content enters the cache key: "

ContentPath = Annotated[str, f"{_CONTENT}path"]
"""A local path or Hub id whose bytes enter the cache key instead of its name."""

ModelPath = Annotated[str, f"{_CONTENT}model"]
"""As `ContentPath`; a local directory must hold a model, which is checked when the key is computed."""

ConstitutionPath = Annotated[str, f"{_CONTENT}constitution"]
"""A built-in constitution or the path of one; its bytes and those of its lexicons enter the cache key."""

QuestionPath = Annotated[str, f"{_CONTENT}question"]
"""A built-in question of a judge or the path of a Jinja file; its bytes enter the cache key."""

NameOrFile = Annotated[str, f"{_CONTENT}name_or_file"]
"""The path of a file whose bytes enter the cache key, or any other text, which enters as it is."""


def in_key(config_type: type[BaseModel], name: str) -> bool:
    """Whether field `name` of `config_type` is part of the cache key."""
    extra = config_type.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("in_key") is False)


def content_kind(config_type: type[BaseModel], name: str) -> str:
    """What field `name` of `config_type` names whose bytes enter the key in its place: path, constitution, ...; empty for none."""
    found = re.search(rf"{_CONTENT}(\w+)", repr(get_type_hints(config_type, include_extras=True)[name]))
    return found[1] if found else ""
