"""What is wrong with a recipe, in one message: each place, what is wrong there, and the nearest valid key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from alignflow.data.errors import RecipeError, cut, quoted

LISTED = 5
"""Faults that a message names; of more it says how many."""
KINDS = ("function-", "tuple[", "literal[")
"""How pydantic's names of the kinds begin that a field takes one of; they end with a bracket, as in `tuple[str, ...]`."""
OTHER_KIND = ("string_type", "tuple_type", "literal_error")
"""What pydantic says of a value that is not of one of those kinds."""


def suggest(name: str, known: Iterable[str]) -> str:
    """A line that names the nearest of `known`, or all of them."""
    near = difflib.get_close_matches(name[:100], list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def explain(error: ValidationError, model: type[BaseModel], where: str, advice: str, place: str = "") -> RecipeError:
    """The error of a recipe, or of a part of one, from what pydantic found in it.

    Args:
        error: What validation against `model` raised.
        model: The config that was validated, whose fields are suggested in place of unknown keys.
        where: The file or place that the message names.
        advice: What to do about a wrong value.
        place: Where the part stands in the recipe; empty for a whole one.
    """
    try:
        found = error.errors(include_url=False)
    except ValueError:  # pydantic fails to write out a number of thousands of digits
        return RecipeError("a number has thousands of digits", where=where, do=advice)
    told: dict[str, str] = {}  # the place and what is wrong there -> what to do: a union says the same several times
    for fault in _of_the_right_kind(found):
        what, do = _fault(fault, model, place)
        told.setdefault(what, do)
    more = f" (and {len(told) - LISTED} more)" if len(told) > LISTED else ""
    first = list(told.items())[:LISTED]
    advised = [do for do in dict.fromkeys(do or advice for _, do in first) if do]
    return RecipeError("; ".join(what for what, _ in first) + more, where=where, do="; ".join(advised))


def _of_the_right_kind(faults: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The faults without those that only say that a value is not of the one kind that its field takes, where another kind fits."""

    def at(fault: Mapping[str, Any]) -> tuple[Any, ...]:
        """Where the field stands that takes several kinds; empty for a fault of another field."""
        return next((fault["loc"][:end] for end, part in enumerate(fault["loc"]) if _is_kind(part)), ())

    def only_another_kind(fault: Mapping[str, Any]) -> bool:
        return fault["type"] in OTHER_KIND and _is_kind(fault["loc"][-1])

    fitting = {at(fault) for fault in faults if at(fault) and not only_another_kind(fault)}
    return [fault for fault in faults if not (at(fault) in fitting and only_another_kind(fault))]


def _is_kind(part: Any) -> bool:
    """Whether a part of pydantic's location is no field, but which of its kinds a value was taken as."""
    return isinstance(part, str) and part.startswith(KINDS) and part.endswith("]")


def _fault(fault: Mapping[str, Any], model: type[BaseModel], place: str) -> tuple[str, str]:
    parts = tuple(part for part in fault["loc"] if not _is_kind(part))
    location = cut(".".join(str(part) for part in ((place,) if place else ()) + parts))
    if fault["type"] == "extra_forbidden":
        return f"unknown key {location!r}", suggest(str(parts[-1]), _fields_at(model, parts[:-1]))
    message, given = _in_yaml(fault["msg"]), fault.get("input")
    scalar = isinstance(given, str | int | float | bool | type(None)) and fault["type"] != "missing"
    if (
        fault["type"] == "value_error"
    ):  # our own sentence: about the value (`is too near 0`), or one that quotes what it needs
        return (
            f"{location}: {quoted(given) + ' ' if scalar and message.startswith(('is ', 'has ', 'must ')) else ''}{message}",
            "",
        )
    if given is None and scalar and location:
        return f"{location} cannot be null", f"leave it out for its default ({message[:1].lower()}{message[1:]})"
    return f"{location}: {message}{f', not {quoted(given)}' if scalar else ''}".removeprefix(": "), ""


def _in_yaml(message: str) -> str:
    """A message of pydantic in the words of YAML."""
    message = (
        message.removeprefix("Value error, ")
        .replace("a valid tuple", "a list")
        .replace("Tuple should", "The list should")
    )
    return re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping", message)


def _fields_at(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the config that stands at a place of a config; none where the place is not known."""
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(kind, "model_fields", {}).get(part)
        inner = [member for member in _members(field.annotation) if isinstance(member, type)] if field else []
        kind = next((member for member in inner if issubclass(member, BaseModel)), None)
    return list(kind.model_fields) if kind else []


def _members(annotation: Any) -> list[Any]:
    inner = [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation, *inner]
