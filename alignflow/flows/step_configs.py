"""Configs that are derived from the recipe: the first model, models and data that replace a stage, seeds. Pure."""

from __future__ import annotations

from typing import Any

from alignflow.data import binding
from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.configs.inputs import BuildConfig, InitConfig, SourceConfig
from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import AlignConfig
from alignflow.data.configs.verifiers import PerRowRewardOptions, VerifierRewardOptions
from alignflow.data.errors import RecipeError


def fold_in_replacements(recipe: Recipe) -> Recipe:
    """Data that replaces a stage, as sources of the data."""
    changes = {}
    if recipe.replace.label:
        changes["preferences"] = (*recipe.data.preferences, SourceConfig(path=recipe.replace.label))
    if recipe.replace.sample:
        changes["completions"] = (*recipe.data.completions, SourceConfig(path=recipe.replace.sample))
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)}) if changes else recipe


def initial_model(recipe: Recipe) -> InitConfig:
    """The config of the step `init`; a model that is built gets the texts for training its tokenizer.

    Raises:
        RecipeError: the model should be built, but the recipe has no texts for its tokenizer.
    """
    model, data = recipe.model, recipe.data
    if model.path is not None:  # `build` is unused and must not enter the key
        return model.model_copy(update={"build": BuildConfig(), "seed": 0})
    if model.corpus:  # chosen by the recipe: the tokenizer, and with it the model, stays the same with new data
        return model
    sources = (*data.demonstrations, *data.prompts, *data.general)
    if not sources:
        raise RecipeError(
            "there are no texts to train a tokenizer on",
            where="model",
            do="set model.path or data.demonstrations",
        )
    # Without caps, which must not change the tokenizer; with its licence, because later manifests name their sources.
    corpus = tuple(
        SourceConfig(**source.model_dump(include={"path", "split", "revision", "licence"})) for source in sources
    )
    return model.model_copy(update={"corpus": corpus})


def taken_in(path: str, model: InitConfig) -> InitConfig:
    """The config that adopts a model instead of a stage; the recipe's settings for its model apply to it too."""
    return InitConfig(
        path=path,
        chat_template=model.chat_template,
        trust_remote_code=model.trust_remote_code,
        licence=model.licence,
        seed=0,
    )


def seeded(config: Any, seed: int) -> Any:
    """The config with the recipe's seed, unless it has its own."""
    if "seed" in type(config).model_fields and "seed" not in config.model_fields_set:
        return config.model_copy(update={"seed": seed})
    return config


def checked_as_rewarded(evaluate: EvaluateConfig, align: AlignConfig | None) -> EvaluateConfig:
    """The evaluation with the checks of the first verifier that gave rewards, unless it has its own.

    If the recipe names no evaluators, `verifiable` is added, which measures the rewarded property before and after.
    """
    rewarded = rewarding_checks(align)
    if rewarded is None:
        return evaluate
    changes: dict[str, Any] = {}
    if evaluate.verifiable is None:
        changes["verifiable"] = rewarded
    if "evaluators" not in evaluate.model_fields_set:
        changes["evaluators"] = (*evaluate.evaluators, "verifiable")
    return evaluate.model_copy(update=changes)


def rewarding_checks(align: AlignConfig | None) -> PerRowRewardOptions | None:
    """The checks of the first verifier among the rewards of a training that samples; None if there is none."""
    options = binding.parsed_options(align, "align") if align is not None else None
    if not isinstance(options, OnlineOptions):
        return None
    for index, source in enumerate(options.rewards):
        checks = binding.parsed_options(source, f"align.options.rewards.{index}")
        if isinstance(checks, PerRowRewardOptions):
            return checks
        if isinstance(checks, VerifierRewardOptions):
            return PerRowRewardOptions(verifiers=(), otherwise=checks.verifier)
    return None
