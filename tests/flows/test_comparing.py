"""The evaluation of an aligned model: what it takes, and when it is refused."""

import pytest

from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.comparing import evaluate_step
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link


def evaluated(aligned="align", **content):
    steps = StepList(Recipe.model_validate({"data": {"prompts": [{"path": "a.jsonl"}]}, **content}))
    steps.supervised_policy = "sft"
    evaluate_step(steps, aligned)
    return steps.made


def test_it_compares_with_the_sft_model_on_held_out_prompts():
    node = evaluated()["evaluate"]
    assert node.inputs == {"aligned": Link("align"), "sft": Link("sft"), "prompts": Link("prepare", "evaluation")}


def test_there_is_none_without_an_aligned_model_or_where_it_is_off():
    assert evaluated(aligned="") == {} and evaluated(evaluate=None) == {}


def test_a_judge_that_needs_a_reward_model_is_refused_without_one():
    with pytest.raises(RecipeError, match="needs a reward model"):
        evaluated(evaluate={"judges": [{"name": "reward_model"}]})
