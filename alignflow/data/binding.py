"""Configs that name a row of the catalogue: the row as its options make it, its parsed options, and all configs inside a config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from alignflow.data import catalogue
from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.judges import JuryOptions
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.configs.unpaired import compares_distributions
from alignflow.data.configs.verifiers import VerifierConfig
from alignflow.data.own_methods import method_row

HOLDERS: tuple[tuple[type[BaseModel], str, str], ...] = (
    (AlignConfig, "method", "methods"),
    (JudgeConfig, "name", "judges"),
    (RewardSourceConfig, "name", "rewards"),
    (VerifierConfig, "name", "verifiers"),
    (GeneratorConfig, "name", "generators"),
)
"""Configs whose `options` are validated by the row that they name: config, field, table."""


def parsed_options(config: BaseModel, where: str) -> BaseModel | None:
    """The options of a config through their own model; None where it has none, or names a judge of the user's own.

    Raises:
        RecipeError: the name or an option is unknown, or a loss of the user's own is not found.
    """
    for holder, field, table in HOLDERS:
        if isinstance(config, holder) and not _without_row(table, getattr(config, field)):
            name, place = getattr(config, field), f"{where}.{field}"
            row: Any = (
                method_row(name, place)
                if table == "methods"
                else catalogue.look_up(catalogue.TABLES[table], name, place)
            )
            options: BaseModel = catalogue.parse_options(row, config.options, f"{where}.options")  # type: ignore[attr-defined]
            return options
    return None


def _without_row(table: str, name: str) -> bool:
    """Whether a name stands for no row: a judge of the user's own, or an engine that is chosen later."""
    return (table == "judges" and ":" in name) or (table == "generators" and name == "auto")


def members_of(judge: JudgeConfig) -> list[JudgeConfig]:
    """The judges of a jury, those of juries inside it included; of any other judge it alone."""
    options = parsed_options(judge, "judge")
    if not isinstance(options, JuryOptions):
        return [judge]
    return [member for each in options.judges for member in members_of(each)]


def bound_method(config: AlignConfig, where: str = "align") -> catalogue.Method:
    """The row of the method of a config as its options make it: some take figures per token of a reference that runs beside the policy.

    Raises:
        RecipeError: the method or an option is unknown.
    """
    row = method_row(config.method, f"{where}.method")
    return as_options_make(row, catalogue.parse_options(row, config.options, f"{where}.options"))


def as_options_make(row: catalogue.Method, options: StageConfig) -> catalogue.Method:
    """A method's row as its parsed options make it; see `bound_method`."""
    if compares_distributions(options):
        return replace(row, live_reference=True, needs=(*row.needs, "forward_kl", "reference_logps"))
    return row


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
