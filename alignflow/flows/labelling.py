"""Steps that sample answers and have them labelled, once or in a round. Pure."""

from __future__ import annotations

from alignflow.data.configs.generation import LabelConfig, SampleConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.flows.judging import calibration_of
from alignflow.flows.method_inputs import kinds_of, needed_models
from alignflow.flows.reward_steps import adopt_reward
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link


def preference_steps(steps: StepList) -> None:
    """Answers and their labels, for a method or a reward model that learns once; rounds make their own."""
    recipe, data = steps.recipe, steps.recipe.data
    if steps.rounds is not None:
        return
    if recipe.replace.align and not recipe.replace.label and "reward" not in recipe.model_fields_set:
        return  # nothing is left to learn from preferences
    if data.preferences and not steps.mixes:
        return
    if data.completions:
        label_steps(steps, recipe.label, Link("prepare", "completions"), steps.policy)
    elif (data.prompts or data.demonstrations or steps.mixes) and _preferences_wanted(steps):
        label_steps(steps, recipe.label, sample_step(steps, recipe.sample, steps.policy), steps.policy)
    elif recipe.label.mix != "off":
        raise RecipeError(
            f"label.mix: {recipe.label.mix}, and the recipe has nothing to label and to learn from",
            where="label.mix",
            do="give data.prompts or data.completions and a method or reward model that learns from pairs, or set it to off",
        )


def sample_step(steps: StepList, config: SampleConfig, policy: str) -> Link:
    """Answers of a policy to the recipe's prompts."""
    made = steps.add("sample", "sample", config, policy=Link(policy), prompts=Link("prepare", "prompts"))
    return Link(made, "completions")


def label_steps(steps: StepList, config: LabelConfig, completions: Link, policy: str, judge: str = "") -> str:
    """Revise answers where the recipe asks for it, and label them; returns the step that labels.

    Args:
        steps: Where they are added.
        config: How answers are labelled.
        completions: The answers.
        policy: The step whose model revises its answers.
        judge: The step whose model judges where the judge names none; empty: the policy.
    """
    recipe = steps.recipe
    if recipe.revise is not None:
        reviser = Link(policy) if recipe.revise.model is None else None
        revised = steps.add("revise", "revise", recipe.revise, completions=completions, policy=reviser)
        completions = Link(revised, "completions")
    needs = needed_models(steps.own_config("label", config).judge)
    if "reward_model" in needs and not steps.reward:
        adopt_reward(steps, "label.judge")
    steps.labelled = config
    return steps.add(
        "label",
        "label",
        config,
        completions=completions,
        policy=Link(judge or policy) if "policy" in needs else None,
        reward_model=Link(steps.reward) if "reward_model" in needs else None,
        preferences=Link("prepare", "preferences") if steps.mixes else None,
        calibration=calibration_of(recipe),
    )


def _preferences_wanted(steps: StepList) -> bool:
    """Whether anything learns from labelled samples: the method, or a reward model; without a method they are the result."""
    recipe = steps.recipe
    if recipe.align is None or recipe.replace.align:
        return True
    kinds = kinds_of(method_row(recipe.align.method))
    learnt = (
        recipe.reward is not None
        and not recipe.replace.reward
        and steps.prepared(recipe.reward.about_loss.kinds) is None
    )
    if not kinds:
        return learnt
    asked = "reward" in recipe.model_fields_set or "reward_model" in steps.needs
    return steps.prepared(kinds) is None or (learnt and asked)
