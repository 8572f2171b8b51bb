"""Settings over a recipe: `align.options.beta=0.2` as a place and a value, and how a value is put there."""

from __future__ import annotations

from typing import Any

from alignflow.data.errors import RecipeError, quoted
from alignflow.data.yaml_text import MAX_DEPTH, YamlError, read_yaml


def parse_setting(setting: str) -> tuple[str, Any]:
    """The place and the value of `a.b=value`; the value is YAML. Raises RecipeError."""
    name, separator, text = setting.partition("=")
    if not separator or not name:
        raise RecipeError(
            f"{quoted(setting)} is not of the form name=value",
            where="--set",
            do="for example --set align.options.beta=0.2",
        )
    _parts(name)
    try:
        return name, read_yaml(text)
    except YamlError as error:
        raise RecipeError(f"{quoted(text)} is not a YAML value: {error}", where=_where(name), do="quote it") from None


def apply_setting(content: dict[str, Any], name: str, value: Any) -> None:
    """Put a value at the place `a.b` of the content; raises RecipeError where there can be no such place."""
    place: Any = content
    *parents, last = _parts(name)
    for parent in parents:
        if isinstance(place, list):
            index = _index(parent, place, name)
            if not isinstance(place[index], dict | list):
                place[index] = {}
            place = place[index]
            continue
        if not isinstance(place.get(parent), dict | list):
            place[parent] = {}
        place = place[parent]
    if isinstance(place, list):
        place[_index(last, place, name)] = value
    else:
        place[last] = value


def _parts(name: str) -> list[str]:
    parts = name.split(".")
    if len(parts) > MAX_DEPTH or not all(part.strip() for part in parts):
        do = "names with a dot between each two, for example --set align.options.beta=0.2"
        raise RecipeError(f"{quoted(name)} is not a place in a recipe", where="--set", do=do)
    return parts


def _index(text: str, items: list[Any], name: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < len(items):
        return int(text)
    raise RecipeError(
        f"{quoted(text)} is not a place in a list of {len(items)}", where=_where(name), do="places count from 0"
    )


def _where(name: str) -> str:
    return f"--set {quoted(name)[1:-1]}"
