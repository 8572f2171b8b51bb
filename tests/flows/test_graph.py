"""The flow is exactly as long as the recipe needs, and every stage can be replaced."""

import pytest

from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.graph import Link, downstream, nodes, upstream

SOURCE = [{"path": "file.jsonl"}]


def recipe(**content):
    return Recipe.model_validate({"data": {"demonstrations": SOURCE}, **content})


def names(**content):
    return [node.name for node in nodes(recipe(**content))]


CASES = [
    ({}, "init prepare sft sample label reward align evaluate report"),
    ({"reward": None}, "init prepare sft sample label align evaluate report"),
    ({"sft": None}, "init prepare sample label reward align evaluate report"),
    ({"align": None, "report": None}, "init prepare sft sample label reward"),
    ({"data": {"preferences": SOURCE}, "model": {"path": "m"}}, "init prepare align evaluate report"),
    ({"data": {"preferences": SOURCE}, "model": {"path": "m"}, "evaluate": None, "report": None}, "init prepare align"),
    ({"data": {"preferences": SOURCE}, "model": {"path": "m"}, "reward": {}}, "init prepare reward align evaluate report"),
    ({"replace": {"sft": "mine"}}, "sft prepare sample label reward align evaluate report"),
    ({"replace": {"label": "pairs.jsonl"}}, "init prepare sft align evaluate report"),
    ({"replace": {"sample": "answers.jsonl"}}, "init prepare sft label reward align evaluate report"),
    ({"replace": {"reward": "mine"}}, "init prepare sft sample label reward align evaluate report"),
    ({"replace": {"align": "mine"}}, "init prepare sft align evaluate report"),
]


@pytest.mark.parametrize(("content", "wanted"), CASES)
def test_the_flow_is_as_long_as_the_recipe_needs(content, wanted):
    assert names(**content) == wanted.split()


@pytest.mark.parametrize(("content", "wanted"), CASES)
def test_every_input_is_made_before_it_is_taken(content, wanted):
    made = set()
    for node in nodes(recipe(**content)):
        assert {link.node for link in node.inputs.values()} <= made
        made.add(node.name)


def test_a_replaced_stage_is_done_by_taking_in(**_):
    stages = {node.name: node.stage for node in nodes(recipe(replace={"sft": "m", "reward": "r", "align": "a"}))}
    assert (stages["sft"], stages["reward"], stages["align"]) == ("init", "adopt_reward", "init")


def test_dpo_takes_its_reference_as_an_artifact():
    align = next(node for node in nodes(recipe()) if node.name == "align")
    assert align.inputs["policy"] == align.inputs["reference"] == Link("sft") and align.config.beta == 0.1


def test_a_reward_model_judge_labels_with_the_users_reward_model():
    steps = nodes(recipe(label={"judge": {"name": "reward_model"}}, replace={"reward": "mine"}))
    order = [node.name for node in steps]
    assert order.index("reward") < order.index("label")
    assert next(node for node in steps if node.name == "label").inputs["reward_model"] == Link("reward")


def test_an_llm_judge_without_a_model_is_the_policy():
    label = next(node for node in nodes(recipe(label={"judge": {"name": "llm"}})) if node.name == "label")
    assert label.inputs["policy"] == Link("sft") and "reward_model" not in label.inputs


def test_the_seed_of_the_recipe_reaches_stages_that_set_none():
    configs = {node.name: node.config for node in nodes(recipe(seed=7, align={"seed": 3}))}
    assert configs["sft"].seed == configs["init"].seed == configs["sample"].seed == 7 and configs["align"].seed == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {}}, "tokenizer"),
        ({"data": {}, "model": {"path": "m"}}, "names no data"),
        ({"label": {"judge": {"name": "reward_model"}}}, "needs a reward model"),
        ({"evaluate": {"judges": [{"name": "rubric"}]}}, "shares"),
        ({"evaluate": {"judges": [{"name": "reward_model"}]}, "reward": None}, "needs a reward model"),
        ({"data": {"evaluation": SOURCE}, "model": {"path": "m"}}, "needs preferences"),
    ],
)
def test_a_recipe_that_lacks_something_is_refused(content, message):
    with pytest.raises(RecipeError, match=message):
        nodes(recipe(**content))


def test_upstream_and_downstream():
    steps = nodes(recipe())
    assert upstream(steps, "align") == {"init", "prepare", "sft", "sample", "label"}
    assert downstream(steps, "align") == {"evaluate", "report"}


def test_what_cannot_change_the_base_model_is_not_in_its_config():
    data = {"demonstrations": [{"path": "a.jsonl", "max_rows": 5, "weight": 0.5}]}
    built = nodes(recipe(data=data))[0].config
    assert built == nodes(recipe(data={"demonstrations": [{"path": "a.jsonl"}]}))[0].config
    loaded = nodes(recipe(data=data, model={"path": "m", "build": {"hidden_size": 64}}, seed=7))[0].config
    assert loaded == nodes(recipe(data=data, model={"path": "m"}))[0].config


def test_a_model_in_place_of_a_stage_keeps_what_the_recipe_says_of_its_model():
    taken = nodes(recipe(model={"licence": "MIT", "chat_template": "plain"}, replace={"sft": "mine"}))[0].config
    assert (taken.path, taken.licence, taken.chat_template) == ("mine", "MIT", "plain")
