"""Which judge a recipe measures, and whether its labels are calibrated by that. Pure."""

from __future__ import annotations

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.steps import Link


def judge_of(recipe: Recipe) -> JudgeConfig:
    """The judge that `judge_eval` measures: its own, else the one that labels; raises RecipeError where there is neither."""
    own = recipe.judge_eval.judge if recipe.judge_eval is not None else None
    if own is None and recipe.label is None:
        raise RecipeError(
            "label is null, and its judge is the one to measure",
            where="judge_eval.judge",
            do="name the judge there, or leave label out",
        )
    return own or recipe.label.judge  # type: ignore[union-attr]


def refuse_calibration(recipe: Recipe) -> None:
    """Raise RecipeError where labels are to be calibrated and nothing measures the judge."""
    if recipe.label is not None and recipe.label.calibrate:
        raise RecipeError(
            "labels are to be calibrated, and nothing measures the judge",
            where="label.calibrate",
            do="give judge_eval.data, a few hundred pairs with human labels; or leave calibrate out",
        )


def calibration_of(recipe: Recipe) -> Link | None:
    """What `judge_eval` fitted, where labels are to be calibrated by it; raises RecipeError where that measures another judge."""
    if recipe.label is None or not recipe.label.calibrate or recipe.judge_eval is None:
        return None
    if recipe.judge_eval.recorded is not None or judge_of(recipe) != recipe.label.judge:
        raise RecipeError(
            "judge_eval measures another judge than label.judge",
            where="label.calibrate",
            do="leave judge_eval.judge out, and give judge_eval.data",
        )
    return Link("judge_eval", "calibration")
