"""Steps that train or adopt the reward model of a recipe. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.configs.overriding import overridden
from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import RecipeError
from alignflow.data.step_names import base_of
from alignflow.flows.method_inputs import needed_models
from alignflow.flows.reward_members import RewardStep, brought_rewards, replaced_models, trained_rewards
from alignflow.flows.step_configs import seeded
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link


def reward_steps(steps: StepList) -> None:
    """Add the reward model that the recipe asks for or one of its steps needs.

    Before rounds it learns from the recipe's own data; without any, `late_reward_steps` trains it on the first round's labels.
    """
    recipe = steps.recipe
    asked = "reward" in recipe.model_fields_set or "reward_model" in steps.needs or _judged_by_reward(steps)
    wanted = recipe.reward is not None and (steps.has("label") or asked)
    if recipe.replace.reward:
        adopt_reward(steps, "replace.reward")
    elif wanted:
        config: RewardConfig = recipe.reward  # type: ignore[assignment]
        kinds = config.about_loss.kinds
        if fed := steps.prepared(kinds) or steps.labels(kinds):
            _add_reward(steps, trained_rewards(seeded(config, recipe.seed)), **dict([fed]))
        elif "reward" in recipe.model_fields_set and steps.rounds is None:
            _refuse(config)


def late_reward_steps(steps: StepList) -> None:
    """After rounds, train a requested reward model on the first round's labels, if the recipe has no data of its own for it."""
    recipe = steps.recipe
    if steps.rounds is None or steps.reward or recipe.reward is None or "reward" not in recipe.model_fields_set:
        return
    if not (fed := steps.labels(recipe.reward.about_loss.kinds)):
        _refuse(recipe.reward)
    else:
        _add_reward(steps, trained_rewards(seeded(recipe.reward, recipe.seed)), **dict([fed]))


def adopt_reward(steps: StepList, where: str) -> None:
    """Adopt the reward model of `replace.reward`; raises RecipeError if there is none."""
    paths = replaced_models(steps.recipe)
    if not paths:
        raise RecipeError(
            "a judge needs a reward model", where=where, do="set replace.reward, or the judge's options.model"
        )
    if not steps.reward:
        _add_reward(steps, brought_rewards(steps.recipe.reward, paths))


def _judged_by_reward(steps: StepList) -> bool:
    """Whether a reward model labels in some round."""
    label = steps.recipe.label
    if steps.rounds is None or label is None:
        return False
    own = [
        overridden(label, given, name)
        for name, given in steps.recipe.rounds.overrides.items()
        if base_of(name) == "label"
    ]
    return any("reward_model" in needed_models(config.judge) for config in (label, *own))


def _add_reward(steps: StepList, members: Sequence[RewardStep], **given: Link) -> None:
    """Add the reward model, or an ensemble's members and then the ensemble, as the step `reward`, which every step that needs scores uses."""
    for step in members:
        links = {name: Link(name) for name in step.members} | given
        base = Link(steps.policy) if step.stage == "reward" else None
        steps.reward = steps.add(step.name, step.stage, step.config, base=base, **links)


def _refuse(config: RewardConfig) -> None:
    own = ", ".join(f"data.{kind}" for kind in config.about_loss.kinds)
    do = f"set {own}, or data.prompts to sample and label; or set reward to null"
    raise RecipeError(f"reward.loss {config.loss} needs {config.about_loss.what}", where="data", do=do)
