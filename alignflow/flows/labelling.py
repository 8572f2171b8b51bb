"""Steps that sample and label answers, once or in a round. Pure."""

from __future__ import annotations

from alignflow.data.configs.generation import LabelConfig, SampleConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short
from alignflow.flows.judging import calibration_of
from alignflow.flows.method_inputs import LABELLED, kinds_of, needed_models
from alignflow.flows.reward_steps import adopt_reward
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link


def preference_steps(steps: StepList) -> None:
    """Add answers and their labels, if a training learns from them once or the recipe asks for them; rounds make their own.

    Raises:
        RecipeError: something learns from labelled answers, and `sample` or `label` is null.
    """
    recipe, data = steps.recipe, steps.recipe.data
    if steps.rounds is not None:
        return
    if recipe.replace.align and not recipe.replace.label and not _reward_is_asked_for(steps):
        return  # nothing learns from preferences
    if data.preferences and not steps.mixes:
        return
    prompted = bool(data.prompts or data.demonstrations or steps.mixes)
    if recipe.label is None:
        _refuse_unlabelled(steps)
        if prompted and not data.completions and "sample" in recipe.model_fields_set and recipe.sample is not None:
            sample_step(steps, recipe.sample, steps.policy)  # the answers are the result
    elif data.completions:
        label_steps(steps, recipe.label, Link("prepare", "completions"), steps.policy)
    elif prompted and _preferences_wanted(steps):
        if recipe.sample is None:
            raise RecipeError(
                "sample is null, so there are no answers to label",
                where="sample",
                do="remove sample: null, or set data.completions or data.preferences; label: null turns labelling off too",
            )
        label_steps(steps, recipe.label, sample_step(steps, recipe.sample, steps.policy), steps.policy)
    elif recipe.label.mix != "off":
        raise RecipeError(
            f"label.mix is {recipe.label.mix}, but the recipe has nothing to label and to learn from",
            where="label.mix",
            do="set data.prompts or data.completions and a method or reward model that learns from pairs, or set it to off",
        )


def sample_step(steps: StepList, config: SampleConfig, policy: str) -> Link:
    """Add answers of a policy to the recipe's prompts."""
    made = steps.add("sample", "sample", config, policy=Link(policy), prompts=Link("prepare", "prompts"))
    return Link(made, "completions")


def label_steps(steps: StepList, config: LabelConfig, completions: Link, policy: str, judge: str = "") -> str:
    """Revise answers if the recipe asks for it, and label them; returns the step that labels.

    Args:
        steps: The list to which they are added.
        config: How answers are labelled.
        completions: The answers.
        policy: The step whose model revises its answers.
        judge: The step whose model judges if the judge names none; empty: the policy.
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
    """Whether anything uses labelled samples: the method or a reward model. Without a method they are a result if the recipe says
    how to sample, revise or label."""
    recipe = steps.recipe
    if _learnt_by_method(steps):
        return True
    if recipe.align is None or recipe.replace.align:
        wanted = [name for name in ("sample", "revise", "label") if name in recipe.model_fields_set]
        return _learnt_by_reward(steps, asked=True) or any(getattr(recipe, name) is not None for name in wanted)
    return _learnt_by_reward(steps, asked=bool(kinds_of(method_row(recipe.align.method))))


def _refuse_unlabelled(steps: StepList) -> None:
    """Raise RecipeError if the recipe labels nothing but something in it learns from labelled answers or uses revised ones."""
    recipe = steps.recipe
    if _learnt_by_method(steps):
        name, kinds = short(recipe.align.method), kinds_of(method_row(recipe.align.method))  # type: ignore[union-attr]
    elif _learnt_by_reward(steps, asked=True):
        name, kinds = "the reward model", list(recipe.reward.about_loss.kinds)  # type: ignore[union-attr]
    elif recipe.revise is not None:
        raise RecipeError(
            "label is null, so nothing uses the revised answers",
            where="revise",
            do="remove label: null, or set revise to null",
        )
    else:
        return
    own = " or ".join(f"data.{kind}" for kind in kinds if kind in type(recipe.data).model_fields)
    raise RecipeError(
        f"label is null, but {name} learns from labelled answers", where="label", do=f"remove label: null, or set {own}"
    )


def _learnt_by_method(steps: StepList) -> bool:
    """Whether the method learns from data that the recipe does not have and labels can provide."""
    recipe = steps.recipe
    if recipe.align is None or recipe.replace.align:
        return False
    kinds = kinds_of(method_row(recipe.align.method))
    return bool(set(kinds) & set(LABELLED)) and steps.prepared(kinds) is None


def _learnt_by_reward(steps: StepList, asked: bool) -> bool:
    """Whether a reward model learns from data that the recipe does not have; with `asked` only if something needs it."""
    recipe = steps.recipe
    if recipe.reward is None or recipe.replace.reward or steps.prepared(recipe.reward.about_loss.kinds) is not None:
        return False
    return not asked or _reward_is_asked_for(steps)


def _reward_is_asked_for(steps: StepList) -> bool:
    """Whether the recipe has a section `reward`, or its method needs a reward model."""
    own = "reward" in steps.recipe.model_fields_set and steps.recipe.reward is not None
    return own or "reward_model" in steps.needs
