"""The judge that a recipe measures, and the calibration of its labels. Pure."""

from __future__ import annotations

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.steps import Link


def judge_of(recipe: Recipe) -> JudgeConfig:
    """The judge that `judge_eval` measures: its own, else the one that labels; raises RecipeError if there is neither."""
    own = recipe.judge_eval.judge if recipe.judge_eval is not None else None
    if own is None and recipe.label is None:
        raise RecipeError(
            "label is null, so there is no judge to measure",
            where="judge_eval.judge",
            do="name the judge there, or remove label: null",
        )
    return own or recipe.label.judge  # type: ignore[union-attr]


def refuse_calibration(recipe: Recipe) -> None:
    """Raise RecipeError if labels should be calibrated but nothing measures the judge."""
    if recipe.label is not None and recipe.label.calibrate:
        raise RecipeError(
            "labels should be calibrated, but nothing measures the judge",
            where="label.calibrate",
            do="set judge_eval.data to a few hundred pairs with human labels, or remove calibrate",
        )


def calibration_of(recipe: Recipe) -> Link | None:
    """The link to the calibration that `judge_eval` fitted, if labels use it; raises RecipeError if it measures another judge."""
    if recipe.label is None or not recipe.label.calibrate or recipe.judge_eval is None:
        return None
    if recipe.judge_eval.recorded is not None or judge_of(recipe) != recipe.label.judge:
        raise RecipeError(
            "judge_eval measures a different judge than label.judge",
            where="label.calibrate",
            do="remove judge_eval.judge, and set judge_eval.data",
        )
    return Link("judge_eval", "calibration")
