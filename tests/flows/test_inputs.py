"""A stage that runs by itself takes what the recipe says, else what its latest good run took, else what a person names."""

import pytest
from flow_support import publish, publish_all
from run_support import record_run

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.flows.calls import Caller
from alignflow.flows.inputs import find_inputs, steps_of
from alignflow.tasks.store.last_good_run import latest, remember


@pytest.fixture
def load(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


def inputs_of(recipe, store, stage, named=None, follow=False):
    caller = Caller(recipe, store)
    return find_inputs(caller, steps_of(caller, stage, follow), stage, named or {})


def test_the_reference_serves_align_and_runs_with_it(load, store):
    caller = Caller(load(), store)
    assert steps_of(caller, "align", follow=False) == {"align", "reference"}
    assert steps_of(caller, "align", follow=True) == {"align", "reference", "evaluate", "report"}
    assert steps_of(caller, "sft", follow=False) == {"sft"} and steps_of(caller, "evaluate", follow=True) == {
        "evaluate",
        "report",
    }


def test_what_the_recipe_says_comes_first(load, store):
    made = publish_all(load(), store)
    found = inputs_of(load("align.options.beta=0.3"), store, "align")
    assert {step: call.key for step, call in found.calls.items()} == {
        step: made[step].key for step in ("init", "prepare", "sft", "sample", "label")
    }
    assert not found.foreign and all("as the recipe says" in note for note in found.notes)


def test_without_it_the_latest_good_run_of_the_recipe_counts_and_is_said(load, store):
    made = publish_all(load(), store)
    remember(store, "tiny", {step: manifest.key for step, manifest in made.items()})
    found = inputs_of(load("data.max_length=150", "sft.seed=7"), store, "align")
    assert {step: call.key for step, call in found.calls.items()} == {
        step: made[step].key for step in ("init", "prepare", "sft", "sample", "label")
    }
    assert found.foreign == {"prepare", "sft"}, "what comes of those two is what the recipe makes of them"
    (note,) = [note for note in found.notes if note.startswith("sft: ")]
    assert made["sft"].key in note and "from the latest good run of 'tiny' (2026-01-01" in note


def test_a_latest_run_of_another_recipe_does_not_count(load, store):
    made = publish_all(load(), store)
    remember(store, "other", {step: manifest.key for step, manifest in made.items()})
    with pytest.raises(UserError, match="the store has none"):
        inputs_of(load("data.max_length=150"), store, "align")


def test_a_missing_input_names_the_stage_to_run_first(load, store):
    publish_all(load(), store, until="label")
    with pytest.raises(UserError) as raised:
        inputs_of(load(), store, "align")
    assert "preferences from label" in str(raised.value) and "run label first" in str(raised.value)


def test_an_artifact_is_named_by_the_start_of_its_key_or_digest_its_step_or_its_run(load, store):
    made = publish_all(load(), store)
    caller = Caller(load("sft.seed=7"), store)
    node = next(node for node in caller.nodes if node.name == "sft")
    other = publish(
        store, caller.call(node, {name: manifest.ref() for name, manifest in made.items()}), content="other"
    )
    record_run(store, {"sft": other, "label": made["label"]})
    for name in (other.key[:20], other.digest[:12], "sft", "mine", "last"):
        found = inputs_of(load(), store, "align", {"policy": name})
        assert found.calls["sft"].key == other.key and found.foreign == {"sft"}
        assert found.calls["label"].key == made["label"].key, "the preferences stay those of the recipe's own model"
        assert any(other.key in note and "named for policy" in note for note in found.notes)


def test_of_a_run_the_step_is_taken_that_the_input_comes_from_and_not_its_best_model(load, store):
    made = publish_all(load(), store)
    record_run(store, made, "whole")
    for name in ("last", "whole"):
        found = inputs_of(load(), store, "evaluate", {"sft": name, "aligned": name})
        assert (found.calls["sft"].key, found.calls["align"].key) == (made["sft"].key, made["align"].key)


def test_a_run_without_that_step_gives_its_best_artifact_of_the_kind(load, store):
    made = publish_all(load(), store)
    record_run(store, {step: made[step] for step in ("init", "sft")}, "tuned")
    assert inputs_of(load(), store, "evaluate", {"aligned": "tuned"}).calls["align"].key == made["sft"].key


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ({"polic": "sft-"}, "did you mean 'policy'"),
        ({"policy": "label-"}, "is a dataset of the stage label, not a checkpoint"),
        ({"policy": "nothing"}, "no artifact matches"),
        ({"preferences": "sample-"}, "not a dataset with preferences"),
    ],
)
def test_a_wrong_name_is_refused(load, store, named, what):
    publish_all(load(), store)
    with pytest.raises(UserError) as raised:
        inputs_of(load(), store, "align", named)
    assert what in str(raised.value)


def test_one_step_cannot_be_two_artifacts(load, store):
    made = publish_all(load(), store)
    named = {"policy": made["sft"].key, "reference": made["init"].key}
    with pytest.raises(UserError, match="named another artifact"):
        inputs_of(load("align.method=ppo", "align.options={rewards: [{name: reward_model}]}"), store, "align", named)


def test_the_latest_of_a_step_is_kept_where_another_one_is_noted(load, store):
    made = publish_all(load(), store)
    remember(store, "tiny", {"init": made["init"].key})
    remember(store, "tiny", {"sft": made["sft"].key, "label": "label-gone"})
    assert latest(store, "tiny", "init").key == made["init"].key and latest(store, "tiny", "sft").key == made["sft"].key
    assert latest(store, "tiny", "label") is None and latest(store, "tiny", "align") is None
