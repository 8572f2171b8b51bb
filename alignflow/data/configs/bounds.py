"""The values that a field of a config takes, as text for lists, forms and commented recipes."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo


def bounds_of(field: FieldInfo) -> str:
    """The values that a field takes, as text: bounds or choices; empty where anything of its type will do."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return ", ".join(map(str, choices)) or ", ".join(text for part in field.metadata if (text := _bound(part)))


def _bound(part: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "pattern": "matches"}
    return " ".join(
        f"{sign} {getattr(part, name)}" for name, sign in signs.items() if getattr(part, name, None) is not None
    )
