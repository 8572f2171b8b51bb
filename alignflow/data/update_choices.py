"""Choices of a method that samples which do not go together, found from its options alone, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from alignflow.data import catalogue
from alignflow.data.catalogue.updates import LOSS_OPTIONS
from alignflow.data.configs.online import OnlineOptions, PPOOptions
from alignflow.data.configs.rollouts import ImportanceOptions
from alignflow.data.errors import RecipeError, quoted


def check_update(options: OnlineOptions, where: str) -> None:
    """Look up the advantage and the policy loss, and refuse what does not fit them.

    Raises:
        RecipeError: names the field under `where`, and what to do.
    """
    for field, what, do in _faults(options, where):
        raise RecipeError(what, where=f"{where}.{field}", do=do)


def _faults(options: OnlineOptions, where: str) -> Iterator[tuple[str, str, str]]:
    """(field, what is wrong, what to do)."""
    advantage = catalogue.look_up(catalogue.ADVANTAGES, options.advantage, f"{where}.advantage")
    loss = catalogue.look_up(catalogue.POLICY_LOSSES, options.policy_loss, f"{where}.policy_loss")
    if advantage.needs_values and not isinstance(options, PPOOptions):
        yield "advantage", f"{options.advantage} needs a value model, which this method has no options for", "use ppo"
    if advantage.groups and options.num_generations < 2:
        what = f"{options.advantage} compares the answers to one prompt, and there is one"
        yield "num_generations", what, "set it to 2 or more"
    foreign = [source.name for source in options.rewards if advantage.scores and source.name not in advantage.scores]
    if foreign:
        what = f"{options.advantage} works on win rates within the group, which {quoted(foreign[0])} does not give"
        yield "rewards", what, f"take {' or '.join(advantage.scores)}"
    if advantage.groups and options.whiten_rewards:
        what = f"{options.advantage} compares whole answers: rewards whitened by token would depend on their lengths"
        yield "whiten_rewards", what, "leave it out; whiten_advantages is over the update too"
    if options.dynamic_sampling and options.num_generations < 2:
        yield "dynamic_sampling", "a prompt with one answer has no two scores", "set num_generations to 2 or more"
    if options.normalize_rewards == "group" and options.num_generations < 2:
        what = "normalised within a group of one answer every score is 0"
        yield "normalize_rewards", what, "set num_generations to 2 or more, or leave it out"
    for index, source in enumerate(options.rewards):
        alone = source.name == "win_rate" and source.options.get("against", "group") == "group"
        if alone and options.num_generations < 2:
            what = "a win rate within the group needs several answers to a prompt"
            yield f"rewards.{index}.options.against", what, "set num_generations to 2 or more, or against: reference"
    if options.adaptive_kl and not options.kl_coef:
        yield "adaptive_kl", "kl_coef is 0, and stays 0 whatever it is multiplied by", "set kl_coef, or leave it out"
    if options.dynamic_sampling and options.rollout_ahead:
        what = (
            "how many prompts an update takes is not known before its answers are scored, so none can be sampled ahead"
        )
        yield "rollout_ahead", what, "set it to 0, or dynamic_sampling to 0"
    unread = [name for name in LOSS_OPTIONS if name in options.model_fields_set and name not in loss.reads]
    if unread:
        yield unread[0], f"the policy loss {options.policy_loss} does not read it", "leave it out"
    if loss.whole_answers and options.aggregate != "sequence":
        what = f"the loss {options.policy_loss} is one of whole answers: this mean would weigh them by their tokens"
        yield "aggregate", what, "set it to sequence"
    if "overlong_penalty" in options.model_fields_set and not options.overlong_buffer:
        yield (
            "overlong_penalty",
            "overlong_buffer is 0: no answer loses anything",
            "set overlong_buffer, or leave it out",
        )
    yield from _importance_faults(options)


def check_importance(options: ImportanceOptions, where: str) -> None:
    """Refuse bounds between which no ratio lies; raises RecipeError."""
    for field, what, do in _importance_faults(options):
        raise RecipeError(what, where=f"{where}.{field}", do=do)


def _importance_faults(options: ImportanceOptions) -> Iterator[tuple[str, str, str]]:
    lowest = options.importance_sampling_clip_min
    if lowest is not None and lowest > options.importance_sampling_clip_max:
        what = f"{lowest:g} is over importance_sampling_clip_max {options.importance_sampling_clip_max:g}"
        yield "importance_sampling_clip_min", what, "lower it"
