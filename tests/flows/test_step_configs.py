"""Configs of steps that the recipe does not hold as they are."""

from pathlib import Path

import pytest

from alignflow.data.configs.generation import SampleConfig
from alignflow.data.configs.inputs import BuildConfig
from alignflow.data.configs.loading import parse_recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.step_configs import checked_as_rewarded, fold_in_replacements, initial_model, seeded, taken_in

DATA = {"demonstrations": [{"path": "chats.jsonl", "max_rows": 5, "licence": "MIT"}]}


def recipe(**sections):
    return parse_recipe({"name": "test", "data": DATA, **sections}, Path("/r"), "test")


def test_a_model_that_is_built_gets_all_rows_of_the_texts_that_train_its_tokenizer():
    (source,) = initial_model(recipe()).corpus
    assert str(source.path).endswith("chats.jsonl") and source.licence == "MIT" and source.max_rows is None


def test_of_a_model_that_is_given_what_would_be_built_is_no_part():
    given = initial_model(recipe(model={"path": "Qwen/Qwen3-0.6B", "build": {"num_hidden_layers": 7}, "seed": 3}))
    assert given.build == BuildConfig() and given.seed == 0 and not given.corpus


def test_without_texts_no_tokenizer_can_be_trained():
    with pytest.raises(RecipeError, match="no texts to train a tokenizer on") as error:
        initial_model(
            parse_recipe({"name": "test", "data": {"preferences": [{"path": "pairs.jsonl"}]}}, Path("/r"), "test")
        )
    assert str(error.value).startswith("model")


def test_data_in_place_of_a_stage_is_a_source_beside_the_recipes_own():
    changed = fold_in_replacements(recipe(replace={"label": "pairs.jsonl", "sample": "answers.jsonl"}))
    assert [str(source.path).rpartition("/")[2] for source in changed.data.preferences] == ["pairs.jsonl"]
    assert [str(source.path).rpartition("/")[2] for source in changed.data.completions] == ["answers.jsonl"]
    assert fold_in_replacements(same := recipe()) is same


def test_a_model_in_place_of_a_stage_keeps_what_the_recipe_says_of_its_model():
    model = recipe(model={"path": "base", "licence": "MIT", "chat_template": "plain", "seed": 9}).model
    taken = taken_in("other", model)
    assert (taken.path, taken.licence, taken.chat_template, taken.seed) == ("other", "MIT", "plain", 0)


def test_a_config_gets_the_recipes_seed_unless_it_has_its_own():
    assert seeded(SampleConfig(), 7).seed == 7
    assert seeded(SampleConfig(seed=0), 7).seed == 0
    assert seeded(BuildConfig(), 7) == BuildConfig()


def rewarded(*rewards, **evaluate):
    found = recipe(align={"method": "ppo", "options": {"rewards": list(rewards)}}, evaluate=evaluate)
    return checked_as_rewarded(found.evaluate, found.align)


CHECK = {"name": "verifier", "options": {"verifier": {"name": "exact_answer"}}}


def test_what_is_rewarded_by_a_check_is_evaluated_by_it():
    found = rewarded({"name": "reward_model"}, CHECK, {"name": "per_row"})
    assert found.evaluators[-1] == "verifiable"
    assert found.verifiable.otherwise.name == "exact_answer" and not found.verifiable.verifiers
    assert rewarded({"name": "per_row"}).verifiable.verifiers


def test_an_evaluation_that_says_what_it_wants_gets_that():
    found = rewarded(CHECK, evaluators=["kl"], verifiable={"otherwise": {"name": "numeric_answer"}})
    assert found.evaluators == ("kl",) and found.verifiable.otherwise.name == "numeric_answer"


def test_without_a_check_among_the_rewards_nothing_changes():
    plain = recipe(align={"method": "dpo"})
    assert checked_as_rewarded(plain.evaluate, plain.align) is plain.evaluate
    assert rewarded({"name": "reward_model"}).verifiable is None
