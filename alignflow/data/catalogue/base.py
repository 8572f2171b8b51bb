"""What every row of the catalogue is, and how a row is found. Raise a row's `version` when a change of its code changes results."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from alignflow import collector
from alignflow.data.configs import options
from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.explaining import explain, suggest
from alignflow.data.errors import RecipeError, quoted


@dataclass(frozen=True)
class Part:
    """Anything that a recipe names and a stage binds.

    Attributes:
        address: Dotted address of the function or class.
        summary: One line for lists and docs.
        version: Raised when its results change.
    """

    address: str
    summary: str
    version: str = "1"

    def resolve(self) -> Callable[..., Any]:
        """Import and return what the address names."""
        module, _, name = self.address.partition(":")
        with collector.paused():
            found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found


@dataclass(frozen=True)
class PartWithOptions(Part):
    """A part with options of its own.

    Attributes:
        options: Type of its `options`.
    """

    options: type[StageConfig] = options.NoOptions


P = TypeVar("P", bound=Part)


def look_up(table: Mapping[str, P], name: str, where: str) -> P:
    """Return the row `name`; raises RecipeError with the nearest valid name."""
    if name in table:
        return table[name]
    raise RecipeError(f"unknown name {quoted(name)}", where=where, do=suggest(name, table))


def parse_options(row: PartWithOptions, values: Mapping[str, Any], where: str) -> Any:
    """Validate `options` by the row's model; raises RecipeError that names the field."""
    try:
        return row.options.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, row.options, where, "", place=where) from None
