"""The steps of a reward model or ensemble: the config of each member, and the step that combines them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from alignflow.data.configs.base import LARGEST_SEED
from alignflow.data.configs.inputs import AdoptConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import RewardConfig, RewardEnsembleConfig
from alignflow.data.errors import RecipeError
from alignflow.data.reward_ensembles import is_ensemble

STRIDE = 15_485_863
"""Distance between the seeds of members: much larger than between seeds that people choose, so that two ensembles do not share a member by accident."""
OF_AN_ENSEMBLE = ("members", "aggregate", "uncertainty_weight")
"""Fields of `reward` that no member reads."""


def member_configs(config: RewardConfig) -> list[RewardConfig]:
    """The config of each member, from the seeded config of `reward`. The first has the recipe's seed: it is the same reward model that a
    recipe without an ensemble trains. Adding a member does not change the others."""
    alone = {name: RewardConfig.model_fields[name].default for name in OF_AN_ENSEMBLE}
    return [
        config.model_copy(update={**alone, "seed": (config.seed + number * STRIDE) % (LARGEST_SEED + 1)})
        for number in range(config.members)
    ]


@dataclass(frozen=True)
class RewardStep:
    """A step that makes a reward model, or one of several.

    Attributes:
        name: Its name in the run.
        stage: reward, adopt_reward or reward_ensemble.
        config: Its config.
        members: The member steps, if it makes an ensemble.
    """

    name: str
    stage: str
    config: BaseModel
    members: tuple[str, ...] = ()


def trained_rewards(config: RewardConfig) -> list[RewardStep]:
    """The steps of `reward`, from its seeded config."""
    if config.members == 1:
        return [RewardStep("reward", "reward", config)]
    configs = member_configs(config)
    return _with_ensemble("reward", configs, _ensemble(config).model_copy(update={"reward": configs[0]}))


def brought_rewards(config: RewardConfig | None, paths: Sequence[str]) -> list[RewardStep]:
    """The steps that adopt the reward models at `paths`, from the config of `reward`."""
    configs = [AdoptConfig(path=path) for path in paths]
    if len(configs) == 1:
        return [RewardStep("reward", "adopt_reward", configs[0])]
    return _with_ensemble("adopt_reward", configs, _ensemble(config or RewardConfig()))


def _with_ensemble(stage: str, configs: Sequence[BaseModel], ensemble: RewardEnsembleConfig) -> list[RewardStep]:
    members = [RewardStep(f"reward.{number}", stage, config) for number, config in enumerate(configs, 1)]
    return [*members, RewardStep("reward", "reward_ensemble", ensemble, tuple(step.name for step in members))]


def _ensemble(config: RewardConfig) -> RewardEnsembleConfig:
    return RewardEnsembleConfig(aggregate=config.aggregate, uncertainty_weight=config.uncertainty_weight)


def replaced_models(recipe: Recipe) -> Sequence[str]:
    """The reward models that the user brings."""
    given = recipe.replace.reward
    return () if given is None else (given,) if isinstance(given, str) else given


def check_members(recipe: Recipe) -> None:
    """Refuse members that do not form an ensemble, and ensemble settings in a recipe without one; raises RecipeError."""
    config, brought = recipe.reward, replaced_models(recipe)
    if len(brought) > 1:
        _check_brought(brought)
    if config is None:
        return
    if brought and config.members > 1:
        raise RecipeError(
            "replace.reward brings the reward model, so none is trained",
            where="reward.members",
            do="remove it, or set replace.reward to a list of directories",
        )
    if config.members == 1 and len(brought) < 2 and config.aggregate != "mean":
        raise RecipeError(
            "the recipe has one reward model, so there are no scores to combine",
            where="reward.aggregate",
            do="set reward.members to 2 or more, set replace.reward to a list of directories, or remove it",
        )


def _check_brought(paths: Sequence[str]) -> None:
    for number, path in enumerate(paths):
        where = f"replace.reward.{number}"
        if path in paths[:number]:
            raise RecipeError(
                f"{path} is in the list twice, but a model cannot disagree with itself",
                where=where,
                do="name each reward model once",
            )
        if is_ensemble(path):
            raise RecipeError(
                f"{path} is an ensemble itself, but a member must be a single reward model",
                where=where,
                do="list the directories of its members, or only the ensemble",
            )
