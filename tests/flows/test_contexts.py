"""What is sampled must fit the model's context, and a plan knows before anything runs."""

import json

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.flows.calls import plan
from alignflow.flows.contexts import context_length, narrow_lines, refuse_no_room
from alignflow.flows.graph import nodes
from alignflow.flows.pipeline import Narrator, Selection, walk


@pytest.fixture
def load(repository):
    """The tiny recipe: a context of 192 tokens, prompts of at most 64."""
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


@pytest.mark.parametrize("stage", ["sample", "evaluate"])
def test_answers_that_leave_no_room_for_a_prompt_are_refused_before_anything_runs(load, store, stage):
    recipe = load(f"{stage}.max_new_tokens=192")
    (found,) = [step for step in plan(recipe, store) if step.name == stage]
    assert found.state == "blocked" and found.why.startswith(f"{stage}.max_new_tokens: max_new_tokens is 192")
    with pytest.raises(UserError, match="set it below 192"):
        walk(recipe, Selection(), store, Narrator())
    assert not list((store.root / "artifacts").iterdir())


def test_a_model_that_the_user_brings_in_place_of_sft_has_its_own_context(repository, tmp_path):
    shape = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape |= {"intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", [f"replace.sft={tmp_path}"])
    assert context_length(recipe) == 8192


def test_a_prompt_that_may_not_fit_is_told(load):
    def lines(*settings):
        recipe = load(*settings)
        return narrow_lines(recipe, nodes(recipe))

    assert lines("sample.max_new_tokens=128", "evaluate.max_new_tokens=128") == []
    (line,) = lines("evaluate.max_new_tokens=129")
    assert (
        line.startswith("evaluate.max_new_tokens 129 leaves 63 of the model's 192 tokens") and "ends the step" in line
    )
    (line,) = lines("sample.max_new_tokens=150", "sample.truncate=true")
    assert "a longer one is cut from the left" in line
    assert lines("sample.max_new_tokens=150", "sample.max_prompt_length=40") == []


def test_an_endpoint_has_a_context_of_its_own(load):
    server = "{name: server, options: {urls: ['http://127.0.0.1:9/v1'], model: large}}"
    for setting in (f"sample.generator={server}", f"engine.generator={server}"):
        recipe = load("sample.max_new_tokens=500", setting)
        (sample,) = [node for node in nodes(recipe) if node.name == "sample"]
        refuse_no_room(sample, recipe, context_length(recipe))
        assert not [line for line in narrow_lines(recipe, nodes(recipe)) if line.startswith("sample.")]


def test_a_model_whose_context_is_unknown_is_not_judged(load, tmp_path):
    assert context_length(load()) == 192
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of", "max_position_embeddings": 8}')
    recipe = load(f"model={{path: {tmp_path}}}")
    assert context_length(recipe) is None and narrow_lines(recipe, nodes(recipe)) == []
