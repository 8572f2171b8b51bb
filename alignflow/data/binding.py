"""Configs that name a row of the catalogue: the row, its parsed options, and all configs inside a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from alignflow.data import catalogue
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.online import RewardSourceConfig
from alignflow.data.configs.training import AlignConfig

HOLDERS: tuple[tuple[type[BaseModel], str, str], ...] = (
    (AlignConfig, "method", "methods"),
    (JudgeConfig, "name", "judges"),
    (RewardSourceConfig, "name", "rewards"),
)
"""Configs whose `options` are validated by the row that they name: config, field, table."""


def parsed_options(config: BaseModel, where: str) -> BaseModel | None:
    """The options of a config through their own model; None where it has none, or names the user's own code.

    Raises:
        RecipeError: the name or an option is unknown.
    """
    for holder, field, table in HOLDERS:
        if isinstance(config, holder) and not (table == "judges" and ":" in getattr(config, field)):
            row: Any = catalogue.look_up(catalogue.TABLES[table], getattr(config, field), f"{where}.{field}")
            options: BaseModel = catalogue.parse_options(row, config.options, f"{where}.options")  # type: ignore[attr-defined]
            return options
    return None


def configs_in(config: BaseModel, where: str) -> Iterator[tuple[str, BaseModel]]:
    """A config and every config inside it, options included, each with its place; raises RecipeError as `parsed_options`."""
    yield where, config
    options = parsed_options(config, where)
    if options is not None:
        yield from configs_in(options, f"{where}.options")
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from configs_in(value, f"{where}.{name}")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from configs_in(item, f"{where}.{name}.{index}")
