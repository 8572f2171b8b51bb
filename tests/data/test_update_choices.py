"""Choices that do not go together are refused by name, from the recipe alone; the defaults of every method do."""

import pytest

from alignflow.data.catalogue.policy_gradient_methods import POLICY_GRADIENTS
from alignflow.data.configs.online_preference import NashOptions
from alignflow.data.errors import RecipeError
from alignflow.data.update_choices import check_importance, check_update


@pytest.mark.parametrize("method", POLICY_GRADIENTS)
def test_the_defaults_of_a_method_go_together(method):
    check_update(POLICY_GRADIENTS[method].options(), "align.options")


@pytest.mark.parametrize(
    ("method", "options", "field", "message"),
    [
        ("grpo", {"num_generations": 1}, "num_generations", "there is one"),
        ("grpo", {"advantage": "gae"}, "advantage", "needs a value model"),
        ("grpo", {"advantage": "grop"}, "advantage", "unknown name"),
        ("rloo", {"whiten_rewards": True}, "whiten_rewards", "depend on their lengths"),
        ("rloo", {"aggregate": "token"}, "aggregate", "whole answers"),
        ("reinforce_pp", {"dynamic_sampling": 2}, "dynamic_sampling", "no two scores"),
        ("ppo", {"normalize_rewards": "group"}, "normalize_rewards", "every score is 0"),
        ("ppo", {"rewards": [{"name": "win_rate"}]}, "rewards.0.options.against", "several answers"),
        ("dapo", {"adaptive_kl": True}, "adaptive_kl", "stays 0"),
        ("grpo", {"dynamic_sampling": 2, "rollout_ahead": 1}, "rollout_ahead", "none can be sampled ahead"),
        ("sapo", {"cliprange": 0.1}, "cliprange", "sapo does not read it"),
        ("grpo", {"sapo_temperature_neg": 2.0}, "sapo_temperature_neg", "clip does not read it"),
        ("cispo", {"dual_clip": 3.0}, "dual_clip", "cispo does not read it"),
        ("grpo", {"overlong_penalty": 2.0}, "overlong_penalty", "overlong_buffer is 0"),
        ("spo", {"rewards": [{"name": "reward_model"}]}, "rewards", "win rates within the group"),
        (
            "grpo",
            {"importance_sampling_clip_min": 4.0},
            "importance_sampling_clip_min",
            "4 is over importance_sampling_clip_max 3",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(method, options, field, message):
    with pytest.raises(RecipeError, match=message) as error:
        check_update(POLICY_GRADIENTS[method].options.model_validate(options), "align.options")
    assert error.value.where == f"align.options.{field}"


def test_a_method_that_compares_has_bounds_of_the_ratio_too():
    low, high = ({"importance_sampling_clip_min": value} for value in (0.5, 4.0))
    check_importance(NashOptions(**low), "align.options")
    with pytest.raises(RecipeError, match="4 is over importance_sampling_clip_max 3") as error:
        check_importance(NashOptions(**high), "align.options")
    assert error.value.where == "align.options.importance_sampling_clip_min"
