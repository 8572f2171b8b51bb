"""What every stage config shares: strictness, and the two marks that decide how a field enters the cache key."""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field


class StageConfig(BaseModel):
    """Frozen and strict: an unknown key is an error, and a value never changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def runtime_field(**arguments: Any) -> Any:
    """A field that changes speed or rounding but not the result: it stays out of the cache key."""
    return Field(**arguments, json_schema_extra={"in_key": False})


_CONTENT = "content enters the cache key in place of the name"

ContentPath = Annotated[str, _CONTENT]
"""A path (or built-in name, or Hub id) whose bytes enter the cache key instead of its name."""


def in_key(config_type: type[BaseModel], name: str) -> bool:
    """Whether field `name` of `config_type` is part of the cache key."""
    extra = config_type.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("in_key") is False)


def is_content(config_type: type[BaseModel], name: str) -> bool:
    """Whether field `name` names bytes on disk that enter the key in its place."""
    return _CONTENT in repr(get_type_hints(config_type, include_extras=True)[name])
