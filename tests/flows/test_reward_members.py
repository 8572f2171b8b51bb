"""An ensemble of reward models as steps: a member is a step of its own, and nothing but the ensemble knows how scores become one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.base import LARGEST_SEED
from alignflow.data.configs.loading import load_recipe, parse_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.flows.calls import Caller
from alignflow.flows.graph import nodes
from alignflow.flows.inputs import steps_of
from alignflow.flows.reward_members import member_configs
from alignflow.flows.steps import Link, downstream
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import stage_key

SOURCE = [{"path": "file.jsonl"}]
PPO = {"align": {"method": "ppo"}}


def steps(**content):
    recipe = Recipe.model_validate({"data": {"demonstrations": SOURCE}, **content})
    return {node.name: node for node in nodes(recipe)}


def test_members_come_before_the_step_that_makes_them_one_and_takes_its_name():
    made = steps(reward={"members": 3, "aggregate": "min"}, **PPO)
    assert [name for name in made if name.startswith("reward")] == ["reward.1", "reward.2", "reward.3", "reward"]
    assert [made[name].stage for name in ("reward.1", "reward.2", "reward.3", "reward")] == [
        *["reward"] * 3,
        "reward_ensemble",
    ]
    labelled = Link("label", "preferences")
    assert made["reward.2"].inputs == {"base": Link("sft"), "preferences": labelled}
    members = {f"reward.{number}": Link(f"reward.{number}") for number in (1, 2, 3)}
    assert made["reward"].inputs == {**members, "preferences": labelled}
    assert made["align"].inputs["reward_model"] == made["evaluate"].inputs["reward_model"] == Link("reward")


def test_a_reward_model_alone_is_the_step_reward_as_it_always_was():
    alone = steps(**PPO)["reward"]
    assert (alone.stage, alone.inputs) == ("reward", {"base": Link("sft"), "preferences": Link("label", "preferences")})
    assert steps(reward={"members": 1}, **PPO)["reward"] == alone


def keys_of(tmp_path, **reward):
    """Step -> the part of its key that is no input's, of the steps that make the reward model."""
    made = {name: node for name, node in steps(reward=reward).items() if name.startswith("reward")}
    contents = ContentDigests(tmp_path)
    return {name: stage_key(node.stage, node.config, {}, Runtime(), contents)[0] for name, node in made.items()}


def test_the_first_member_has_the_key_of_a_reward_model_alone_and_no_member_knows_of_the_others(tmp_path):
    keys = {count: keys_of(tmp_path, members=count) for count in (1, 2, 3)}
    assert keys[1]["reward"] == keys[2]["reward.1"] == keys[3]["reward.1"]
    assert keys[2]["reward.2"] == keys[3]["reward.2"]
    assert len({keys[3][f"reward.{number}"] for number in (1, 2, 3)}) == 3


@pytest.mark.parametrize(
    "changes",
    [{"aggregate": "min"}, {"aggregate": "uncertainty"}, {"aggregate": "uncertainty", "uncertainty_weight": 2}],
)
def test_the_rule_is_in_the_ensembles_key_and_in_no_members(changes, tmp_path):
    before, after = keys_of(tmp_path, members=2), keys_of(tmp_path, members=2, **changes)
    assert [name for name in before if before[name] != after[name]] == ["reward"]


def test_what_changes_a_training_changes_every_member_and_the_ensemble_follows_its_inputs(tmp_path):
    before, after = keys_of(tmp_path, members=2), keys_of(tmp_path, members=2, bootstrap=True)
    assert {name for name in before if before[name] != after[name]} == {"reward.1", "reward.2", "reward"}


@given(seed=st.integers(0, LARGEST_SEED), members=st.integers(1, 64))
def test_every_member_has_a_seed_of_its_own_that_a_recipe_may_name(seed, members):
    seeds = [config.seed for config in member_configs(RewardConfig(seed=seed, members=members))]
    assert seeds[0] == seed and len(set(seeds)) == members and all(0 <= one <= LARGEST_SEED for one in seeds)


@given(one=st.integers(0, 10_000), other=st.integers(0, 10_000))
def test_ensembles_of_other_seeds_that_people_write_share_no_member(one, other):
    seeds = [{config.seed for config in member_configs(RewardConfig(seed=seed, members=64))} for seed in (one, other)]
    assert one == other or not seeds[0] & seeds[1]


def test_the_recipes_seed_is_that_of_the_first_member():
    made = steps(seed=7, reward={"members": 2})
    assert made["reward.1"].config.seed == 7 and made["reward"].config.reward.seed == 7
    assert steps(seed=7, reward={"members": 2, "seed": 3})["reward.1"].config.seed == 3


def test_several_reward_models_of_the_users_own_are_an_ensemble_without_held_out_figures():
    made = steps(
        replace={"reward": ["one", "two"]}, reward={"aggregate": "uncertainty", "uncertainty_weight": 0.5}, **PPO
    )
    assert [made[name].stage for name in ("reward.1", "reward.2", "reward")] == [
        *["adopt_reward"] * 2,
        "reward_ensemble",
    ]
    config = made["reward"].config
    assert (config.aggregate, config.uncertainty_weight, config.reward) == ("uncertainty", 0.5, None)
    assert made["reward"].inputs == {name: Link(name) for name in ("reward.1", "reward.2")}


def test_a_reward_model_judge_labels_with_an_ensemble_of_the_users_own():
    made = steps(label={"judge": {"name": "reward_model"}}, replace={"reward": ["one", "two"]})
    order = list(made)
    assert order.index("reward.1") < order.index("reward") < order.index("label")
    assert made["label"].inputs["reward_model"] == Link("reward")


def test_without_a_reward_section_the_users_own_are_averaged():
    assert steps(replace={"reward": ["one", "two"]}, reward=None)["reward"].config.aggregate == "mean"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"reward": {"aggregate": "min"}}, "one reward model"),
        ({"reward": {"aggregate": "min"}, "replace": {"reward": "mine"}}, "one reward model"),
        ({"reward": {"members": 2}, "replace": {"reward": "mine"}}, "replace.reward brings"),
    ],
)
def test_what_an_ensemble_alone_reads_is_refused_without_one(content, said):
    with pytest.raises(RecipeError, match=said):
        steps(**content)


def test_members_of_the_users_own_are_single_models_and_each_is_another(tmp_path):
    (tmp_path / "ensemble.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"replace\.reward\.1: .* is an ensemble itself(.|\n)*its members"):
        steps(replace={"reward": ["one", str(tmp_path)]}, **PPO)
    with pytest.raises(RecipeError, match=r"replace\.reward\.2: one is in the list twice"):
        steps(replace={"reward": ["one", "two", "one"]}, reward=None, **PPO)
    assert steps(replace={"reward": str(tmp_path)}, **PPO)["reward"].stage == "adopt_reward"


def test_a_weight_that_no_rule_reads_is_refused():
    with pytest.raises(ValueError, match="aggregate min does not read uncertainty_weight"):
        RewardConfig(members=2, aggregate="min", uncertainty_weight=0.5)


def test_a_config_with_all_its_fields_written_out_is_read_back():
    config = steps(reward={"members": 2})["reward"].config
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_paths_of_a_list_start_at_the_recipe(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    recipe = parse_recipe({"replace": {"reward": ["one", "./two"]}}, tmp_path, "recipe.yaml")
    assert recipe.replace.reward == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert parse_recipe({"replace": {"reward": "one"}}, tmp_path, "").replace.reward == str(tmp_path / "one")


def test_the_step_alone_brings_its_members_and_a_member_brings_nothing(repository, store):
    caller = Caller(load_recipe(repository / "recipes" / "tiny.yaml", ("reward.members=2",)), store)
    assert steps_of(caller, "reward", follow=False) == {"reward", "reward.1", "reward.2"}
    assert steps_of(caller, "reward.2", follow=False) == {"reward.2"}
    assert downstream(caller.nodes, "reward.2") == {"reward", "evaluate", "report"}
