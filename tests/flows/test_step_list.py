"""The list of steps: names with rounds, seeds, overrides of one round, and where data comes from."""

from alignflow.data.configs.recipe import Recipe
from alignflow.flows.step_list import StepList
from alignflow.flows.steps import Link

SOURCE = [{"path": "file.jsonl"}]


def steps(**content):
    return StepList(Recipe.model_validate({"data": {"prompts": SOURCE}, "seed": 7, **content}))


def test_a_step_of_a_round_has_it_in_its_name_and_the_recipes_seed():
    found = steps()
    assert found.add("sample", "sample", found.recipe.sample, policy=Link("init"), prompts=None) == "sample"
    found.round = 2
    assert found.add("sample", "sample", found.recipe.sample) == "sample.2"
    assert found.made["sample"].inputs == {"policy": Link("init")} and found.made["sample.2"].config.seed == 7
    assert found.has("sample") and not found.has("label")


def test_what_one_round_has_otherwise_is_in_that_round_alone():
    found = steps(rounds={"number": 3, "overrides": {"sample.2": {"temperature": 0.5}}})
    for found.round in (1, 2, 3):
        found.add("sample", "sample", found.recipe.sample)
    assert [found.made[f"sample.{number}"].config.temperature for number in (1, 2, 3)] == [1.0, 0.5, 1.0]


def test_the_first_kind_of_data_that_the_recipe_has_is_taken():
    found = steps(data={"preferences": SOURCE, "unpaired": SOURCE})
    assert found.prepared(("unpaired", "preferences")) == ("unpaired", Link("prepare", "unpaired"))
    assert found.prepared(("rankings",)) is None and found.labels(("preferences",)) is None
