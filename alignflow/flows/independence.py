"""Refuses a judge that evaluates what it taught: it would confirm itself."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from alignflow.data import binding
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.options import RubricOptions
from alignflow.data.constitution import shared_principles
from alignflow.data.errors import RecipeError


def check_independence(first: JudgeConfig | None, second: JudgeConfig, where: str) -> None:
    """Refuse a rubric that shares a principle with the rubric that gave labels or rewards."""
    if first is None:
        return
    for one, other in product(binding.members_of(first), binding.members_of(second)):
        if one.name == other.name == "rubric":
            _check_principles(one, other, where)


def _check_principles(first: JudgeConfig, second: JudgeConfig, where: str) -> None:
    given, watching = (RubricOptions.model_validate(judge.options).constitution for judge in (first, second))
    if shared := shared_principles(given, watching):
        raise RecipeError(
            f"{Path(watching).stem} shares {', '.join(sorted(shared))} with the rubric {Path(given).stem} that it should check",
            where=where,
            do="judge with principles that were not used for labels or rewards",
        )
