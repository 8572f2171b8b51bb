"""Members of a sweep: which there are, what each changes in the recipe, and that one that fails does not stop the others."""

from dataclasses import replace

import pytest

from alignflow.cli.sweep import is_there
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.flows import sweep
from alignflow.flows.calls import plan
from alignflow.flows.pipeline import Narrator, Outcome
from alignflow.flows.sweep import members, run_members

CRINGE = {"cringe": {"alpha": 0.5, "top_k": 3}}


@pytest.fixture
def load(repository):
    return lambda changes: load_recipe(repository / "recipes" / "tiny.yaml", list(changes.items()))


def test_a_member_is_the_recipe_with_a_method_and_a_rate(load):
    found = members(load, ["dpo", "kto"], [1e-5, 1e-4], {"kto": {"beta": 0.2}})
    assert [member.name for member in found] == ["dpo 1e-05", "dpo 0.0001", "kto 1e-05", "kto 0.0001"]
    assert found[2].recipe.align.options == {"beta": 0.2} and found[0].recipe.align.options == {}
    base = load({})
    for member in found:
        assert (
            member.recipe.align.learning_rate == member.learning_rate
            and member.recipe.align.max_steps == base.align.max_steps
        )
        assert member.recipe.sft == base.sft and member.recipe.data == base.data


def test_the_method_of_the_recipe_keeps_its_options(repository):
    def load(changes):
        return load_recipe(
            repository / "recipes" / "tiny.yaml",
            [("align.options", {"beta": 0.3, "label_smoothing": 0.1}), *changes.items()],
        )

    assert load({}).align.method == "dpo"
    found = {
        member.method: member.recipe.align.options
        for member in members(load, ["dpo", "kto"], [1e-5], {"dpo": {"beta": 0.2}})
    }
    assert found == {"dpo": {"beta": 0.2, "label_smoothing": 0.1}, "kto": {}}


def test_without_names_it_is_every_method_of_data_that_is_there_and_has_defaults(load):
    names = [member.method for member in members(load, [], [1e-5], {})]
    assert {"dpo", "sdpo", "simpo", "kto", "lipo", "tdpo2"} <= set(names) and not {"ppo", "cringe"} & set(names)
    assert "cringe" in [member.method for member in members(load, [], [1e-5], CRINGE)]


def test_what_a_method_has_no_use_for_is_left_at_its_default(repository):
    def load(changes):
        return load_recipe(repository / "recipes" / "tiny.yaml", [("align.sft_coefficient", 0.3), *changes.items()])

    found = {
        member.method: member.recipe.align.sft_coefficient
        for member in members(load, ["dpo", "kto", "orpo"], [1e-5], {})
    }
    assert found == {"dpo": 0.3, "kto": 0.0, "orpo": 0.0}


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        (["dop"], {}, "dop"),
        (["dpo"], {"kto": {"beta": 1.0}}, "options of 'kto'"),
        (["dpo"], {"dpo": {"beat": 1.0}}, "beat"),
        (["cringe"], {}, "alpha"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_runs(methods, options, words, load):
    with pytest.raises(RecipeError, match=words):
        members(load, methods, [1e-5], options)


def test_a_recipe_without_align_is_refused(repository):
    with pytest.raises(RecipeError, match="aligns nothing"):
        members(
            lambda changes: load_recipe(repository / "recipes" / "tiny.yaml", ["align=null", "evaluate=null"]),
            ["dpo"],
            [1e-5],
            {},
        )


def test_a_member_that_fails_is_recorded_and_the_others_run(load, store, monkeypatch):
    walked = []

    def walk(recipe, selection, store, narrator):
        walked.append(recipe.align.method)
        raise TrainingError("the loss is nan", where="align", do="lower it")

    monkeypatch.setattr(sweep, "walk", walk)
    results = []
    run_members(
        members(load, ["dpo", "kto"], [1e-5], {}), store, Narrator(), lambda member, result: results.append(result)
    )
    assert walked == ["dpo", "kto"] and all("the loss is nan" in result.error and not result.key for result in results)
    assert [result.family for result in results] == ["pairs", "unpaired"]


def test_a_member_that_a_gate_ends_before_align_is_recorded(load, store, monkeypatch):
    monkeypatch.setattr(
        sweep,
        "walk",
        lambda *arguments: [
            Outcome(name="init", ref=ArtifactRef(key="k", digest="d", kind="checkpoint"), ran=True, seconds=0)
        ],
    )
    monkeypatch.setattr(store, "manifest", lambda key: None)
    results = []
    run_members(members(load, ["dpo"], [1e-5], {}), store, Narrator(), lambda member, result: results.append(result))
    assert results[0].error == "a gate ended it after init, before align" and not results[0].key


def test_a_member_that_lacks_data_does_not_keep_the_others_from_a_rerun(load, store):
    """Where all else is in the store, its recipe was planned, and the refusal ended the sweep without a table."""
    member = members(load, ["dro_v"], [1e-5], {})[0]
    data = member.recipe.data.model_copy(
        update={"preferences": member.recipe.data.demonstrations, "prompts": (), "rankings": ()}
    )
    lacking = replace(member, recipe=member.recipe.model_copy(update={"data": data}))
    with pytest.raises(RecipeError, match="lists of answers"):
        plan(lacking.recipe, store)
    assert is_there(lacking, store) and not is_there(member, store)
