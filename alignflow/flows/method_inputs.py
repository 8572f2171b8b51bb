"""The inputs of a recipe's method, and the message for a missing one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.lists import FOR_WIN_RATES
from alignflow.data.configs.online import OnlineOptions, PPOOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import method_row
from alignflow.data.own_module import short


def conversion(recipe: Recipe, inputs: Collection[str]) -> str:
    """What the columns of the step `align` become, if its data is of another kind than its method's own; else empty."""
    if recipe.align is None or recipe.replace.align:
        return ""
    family = method_row(recipe.align.method).learns_from()
    read = next((feed for feed in family.feeds if feed.kind in inputs), None)
    return f"align: {short(recipe.align.method)} reads {read.kind}: {read.summary}" if read and read.summary else ""


def for_win_rates(config: AlignConfig, judge: JudgeConfig) -> AlignConfig:
    """The config for rankings of a judge: with the method's options for win rates if the judge is known to compare pairs; the
    recipe's own options take precedence."""
    row = catalogue.JUDGES.get(judge.name)
    if row is None or row.pointwise:
        return config
    options = method_row(config.method).options
    marks = {name: field.json_schema_extra for name, field in options.model_fields.items()}
    chosen = {
        name: mark[FOR_WIN_RATES] for name, mark in marks.items() if isinstance(mark, dict) and FOR_WIN_RATES in mark
    }
    return config.model_copy(update={"options": {**chosen, **config.options}})


def needed_models(judge: JudgeConfig) -> set[str]:
    """The default models of a judge or of a jury's members: policy, reward_model; empty if its options name a model."""
    needs = set()
    for member in binding.members_of(judge):
        row = catalogue.JUDGES.get(member.name)
        if row and row.needs and not member.options.get("model"):
            needs.add(row.needs)
    return needs


LABELLED = ("preferences", "rankings", "unpaired", "win_rates")
"""Tables that the stage `label` writes."""
NO_DATA = {
    "preferences": ("data", "preferences", "give data.prompts, data.demonstrations or data.preferences"),
    "unpaired": (
        "data",
        "answers with labels",
        "give data.unpaired, data.preferences, or data.prompts to sample and label",
    ),
    "rankings": (
        "data",
        "lists of answers with scores",
        "give data.rankings, data.preferences, or data.prompts to sample and label",
    ),
    "win_rates": (
        "data",
        "best and worst answers with win rates, or pairs",
        "give data.prompts to sample and label, or data.preferences",
    ),
    "demonstrations": ("data", "demonstrations", "give data.demonstrations"),
}
"""Kind of data for a method -> (place, what is missing, what to do)."""
SCORES_ALONE = "give data.rankings, or data.prompts to sample and label"
SCORES_BESIDE_PAIRS = (
    "set data.rankings: pairs have no scores, and with data.preferences nothing is sampled and labelled"
)
"""What to do if a method learns from scores, not from pairs."""
MISSING = {
    "prompts": ("data", "prompts to sample answers for", "give data.prompts, data.demonstrations or data.preferences"),
    "reward_model": (
        "align.options.rewards",
        "a reward model, but the recipe makes none",
        "set reward with data to label, or replace.reward, or reward by a judge or a function",
    ),
    "demonstrations": (
        "align.options.ptx_coefficient",
        "demonstrations for its ptx term",
        "give data.demonstrations, or set it to 0",
    ),
}
"""Any other input of a method -> (place, what is missing, what to do)."""


def needed_inputs(recipe: Recipe) -> set[str]:
    """The optional inputs that the recipe's method uses, by its options."""
    if recipe.align is None or recipe.replace.align:
        return set()
    method = binding.bound_method(recipe.align)
    needs = {"reference"} if method.needs_reference and not method.live_reference else set()
    for _, part in binding.configs_in(recipe.align, "align"):
        if isinstance(part, RewardSourceConfig):
            if not part.options.get("model"):
                needs.add(catalogue.REWARDS[part.name].needs)
        elif isinstance(part, JudgeConfig):
            needs |= needed_models(part)
        elif isinstance(part, OnlineOptions) and part.ptx_coefficient:
            needs.add("demonstrations")
        if isinstance(part, PPOOptions) and part.init_value_from == "reward_model":
            needs.add("reward_model")
    return needs


def kinds_of(method: catalogue.Method) -> list[str]:
    """Kinds of tables that a method can read, the most direct first; empty for a method that samples its own answers."""
    return [feed.kind for feed in method.learns_from().feeds]


def mixed_kinds(made: Sequence[str]) -> list[str]:
    """The kinds that can be mixed with people's labels: pairs; raises RecipeError if `made` has none."""
    if "preferences" not in made:
        raise RecipeError(
            f"label.mix gives pairs, but the training takes only {' or '.join(made)}",
            where="label.mix",
            do="use a method or a reward.loss that learns from pairs, or set label.mix to off",
        )
    return ["preferences"]
