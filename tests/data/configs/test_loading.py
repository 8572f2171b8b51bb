"""A recipe says what it means: types are not converted, every number has bounds, and a path or a name is of something."""

from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from alignflow.data import catalogue
from alignflow.data.configs.base import LARGEST_SEED
from alignflow.data.configs.loading import load_recipe, recipe_name
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import LoRAConfig
from alignflow.data.errors import RecipeError


@pytest.fixture
def load(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("sample.n=true", "sample.n: Input should be a valid integer, not True"),
        ("align.options={beta: '0.1'}", "align.options.beta: Input should be a valid number, not '0.1'"),
        ("sft.max_steps=1.5", "valid integer"),
        ("model=null", "model cannot be null\n  leave it out for its default (input should be a mapping)"),
        ("sample.n=null", "sample.n cannot be null"),
        ("data.truncate=1", "valid boolean"),
        ("data.truncate='no'", "valid boolean"),
        ("data.general.0.licence=5", "valid string"),
        ("engine.zero_stage=true", "must be one of 0, 1, 2, 3"),
        ("align.options=[]", "a mapping"),
        ("sample=5", "a mapping"),
        ("evaluate.evaluators=kl", "a list"),
        ("seed=18446744073709551616", f"less than or equal to {LARGEST_SEED}"),
        ("sft.batch_size=1000000000000000000", "less than or equal to 1000000"),
        ("sample.temperature=1e-300", "too near 0"),
        ("sample.temperature=0.0001", "too near 0"),
        ("label.judge.options={temperature: 1e-300}", "too near 0"),
        ("align.learning_rate=1e-300", "too near 0"),
        ("align.learning_rate=1e9", "less than or equal to 10"),
        ("sft.learning_rate=" + "9" * 400, "characters)"),
        ("data.prompts.0.path=''", "the path is empty"),
        ("data.prompts.0.path=' '", "the path is empty"),
        ("data.prompts.0.path=//", "root of the file system"),
        ("data.prompts.0.path='~'", "whole home directory"),
        ("data.prompts.0.path=~nobody-here/x", "a user that this machine does not have"),
        ("data.prompts.0.path=" + "x" * 256, "too long"),
        ("replace.reward=''", "the path is empty"),
        ("label.judge.options={constitution: ''}", "the path is empty"),
        ("model.chat_template=instructon", "no chat template 'instructon'"),
        ("model.chat_template=" + "x" * 300, "no chat template"),
        ("engine.rendezvous=host:99999", "no port 99999"),
        ("evaluate.evaluators=[kl, kl]", "'kl' is there twice"),
        ("align.method=os:system", "no loss 'os:system'"),
        ("label.judge={name: llm, options: {options: [A, A]}}", "must differ"),
        ("sft.lora={target_modules: []}", "at least 1 item"),
        ("a..b=1", "not a place in a recipe"),
        ("evaluate.evaluators.0.x=1", "evaluate.evaluators"),
        ("data.prompts.²=1", "not a place in a list"),
        ("align={beta: 1, beta: 2}", "the key 'beta' is there twice"),
        ("align.options={beta: .inf}", "not a finite number"),
        (
            "align={label_smoothing: 0.1}",
            "label_smoothing is an option of the method: write align.options.label_smoothing",
        ),
        ("align={method: simpo, label_smoothing: 0.1}", "simpo has no label_smoothing; it has beta, gamma"),
        ("align={method: simpo, beta: 1}", "beta is an option of the method: write align.options.beta"),
        ("align={method: cpo, sft_coefficient: 0.1}", "align.options.cpo_alpha"),
        ("align={method: orpo, sft_coefficient: 0.1}", "would count it twice"),
        ("align={method: slic_hf, sft_coefficient: 0.1}", "align.options.reg_coef"),
    ],
)
def test_what_means_nothing_is_refused_in_one_message(load, setting, what):
    with pytest.raises(RecipeError) as error:
        load(setting)
    assert what in str(error.value) and len(str(error.value)) < 700 and error.value.exit_status == 2


def test_all_faults_are_told_at_once(load):
    with pytest.raises(RecipeError) as error:
        load("sft={lerning_rate: 1, batchsize: 3}", "sample.n=0")
    text = str(error.value)
    assert (
        "'sft.lerning_rate'" in text
        and "'learning_rate'" in text
        and "'sft.batchsize'" in text
        and "sample.n: " in text
    )


def test_an_alias_of_the_recipe_is_changed_at_one_place_alone(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {prompts: [{path: x.jsonl}]}\nsft: &training {learning_rate: 1e-5}\nreward: *training\n")
    recipe = load_recipe(path, ["sft.learning_rate=1"])
    assert (recipe.sft.learning_rate, recipe.reward.learning_rate) == (1.0, 1e-5)


def test_an_int_for_a_float_and_a_list_for_a_tuple_are_fine(load):
    recipe = load("sft.num_train_epochs=2", "evaluate.evaluators=[kl]", f"seed={LARGEST_SEED}")
    assert type(recipe.sft.num_train_epochs) is float and recipe.evaluate.evaluators == ("kl",)


def configs(kind):
    yield kind
    for field in kind.model_fields.values():
        for inner in members(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from configs(inner)


def members(annotation):
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple):
        return [inner for member in get_args(annotation) for inner in members(member)]
    return [annotation]


ALL = {Recipe, LoRAConfig, *(row.config for row in catalogue.STAGES.values())}
ALL |= {row.options for table in (catalogue.METHODS, catalogue.JUDGES, catalogue.REWARDS) for row in table.values()}


@pytest.mark.parametrize(
    "kind", sorted({inner for kind in ALL for inner in configs(kind)}, key=lambda kind: kind.__name__)
)
def test_every_number_has_a_least_and_a_largest_value(kind):
    for name, field in kind.model_fields.items():
        if {int, float} & set(members(field.annotation)):
            bounds = {
                bound
                for part in field.metadata
                for bound in ("ge", "gt", "le", "lt")
                if getattr(part, bound, None) is not None
            }
            assert bounds & {"ge", "gt"} and bounds & {"le", "lt"}, f"{kind.__name__}.{name}"


@pytest.mark.parametrize(("text", "name"), [("my chats-sft", "my-chats-sft"), ("日本", "run"), ("x" * 80, "x" * 64)])
def test_a_name_of_a_run_is_made_of_the_name_of_a_file(text, name):
    assert recipe_name(text, "run") == name
