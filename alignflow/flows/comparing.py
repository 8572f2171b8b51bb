"""Steps that compare an aligned model with the SFT model. Pure."""

from __future__ import annotations

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.errors import RecipeError
from alignflow.flows.independence import check_independence
from alignflow.flows.method_inputs import needed_models
from alignflow.flows.step_configs import checked_as_rewarded
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link


def evaluate_step(steps: StepList, aligned: str) -> None:
    """Add the evaluation of a step's model, if the recipe evaluates; raises RecipeError if a judge is not independent or lacks a model.

    A reward model that learns from the labels of rounds does not exist yet during a round: its scores are then left out.
    """
    recipe, data = steps.recipe, steps.recipe.data
    if recipe.evaluate is None or not aligned:
        return
    labels = steps.labelled or recipe.label
    labelling = labels.judge if labels is not None and (steps.has("label") or recipe.replace.align) else None
    judges = (*([labelling] if labelling else []), *recipe.evaluate.judges)
    taught = [node.config.judge for node in steps.made.values() if isinstance(node.config, LabelConfig)]
    for index, judge in enumerate(recipe.evaluate.judges):
        for teacher in (labelling, *taught):  # a round may override the judge
            check_independence(teacher, judge, f"evaluate.judges.{index}")
    if any("reward_model" in needed_models(judge) for judge in judges) and not steps.reward:
        raise RecipeError(
            "a judge needs a reward model",
            where="evaluate.judges",
            do="set reward, replace.reward, or the judge's options.model",
        )
    general = Link("prepare", "general") if data.general or data.demonstrations else None
    steps.add(
        "evaluate",
        "evaluate",
        checked_as_rewarded(recipe.evaluate, recipe.align).model_copy(update={"labelling_judge": labelling}),
        aligned=Link(aligned),
        sft=Link(steps.supervised_policy),
        prompts=Link("prepare", "evaluation"),
        general=general,
        reward_model=Link(steps.reward) if steps.reward else None,
    )
