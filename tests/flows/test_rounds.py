"""A staged method: a round for each part of the data, selected, gated, planned and rerun by name and by round."""

import pytest
from flow_support import publish, publish_all
from tests_support import as_artifact

from alignflow.cli.display import result_paths
from alignflow.data.artifacts import ArtifactRef, Manifest, manifest_text
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import GateStoppedError, RecipeError, UserError
from alignflow.flows import capacity
from alignflow.flows.calls import Caller, plan
from alignflow.flows.capacity import Estimator
from alignflow.flows.deployed import named_inputs, stage_flow
from alignflow.flows.gates import Gatekeeper, standing
from alignflow.flows.graph import nodes
from alignflow.flows.inputs import find_inputs, steps_of
from alignflow.flows.pipeline import Outcome, Selection, missing_for, selected
from alignflow.flows.steps import Link, downstream
from alignflow.flows.sweep import Result, _take
from alignflow.tasks.launch.machine import Machine
from alignflow.tasks.store.past_runs import EarlierRun

STAGED = ("align.method=sdpo", "align.options={stages: 3, order: given}")


@pytest.fixture
def load(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", (*STAGED, *settings))


def by_name(recipe):
    return {node.name: node for node in nodes(recipe)}


def names(recipe):
    return list(by_name(recipe))


def test_each_round_starts_from_and_compares_with_the_model_of_the_round_before(load):
    steps = by_name(load())
    rounds = [name for n in (1, 2, 3) for name in (f"reference.{n}", f"align.{n}")]
    assert list(steps)[-10:] == ["label", "reward", "split", *rounds, "evaluate", "report"][-10:]
    assert steps["split"].inputs == {"preferences": Link("label", "preferences")}
    for number, start in ((1, "sft"), (2, "align.1"), (3, "align.2")):
        part = Link("split", f"part.{number}")
        assert steps[f"reference.{number}"].inputs == {"checkpoint": Link(start), "preferences": part}
        assert steps[f"align.{number}"].inputs == {
            "policy": Link(start),
            "reference": Link(f"reference.{number}"),
            "preferences": part,
        }
        assert (steps[f"align.{number}"].round, steps[f"align.{number}"].base) == (number, "align")
    assert steps["evaluate"].inputs["aligned"] == Link("align.3") and steps["evaluate"].inputs["sft"] == Link("sft")
    assert set(steps["report"].inputs) == set(steps) - {"report"}
    assert steps["split"].round == steps["evaluate"].round == 0


def test_easy_pairs_are_found_by_the_scores_that_dpo_takes(load):
    staged, dpo = by_name(load("align.options={}")), by_name(load("align.method=dpo", "align.options={}"))
    assert staged["split"].inputs == {"preferences": Link("label", "preferences"), "reference": Link("reference")}
    assert staged["reference"] == dpo["reference"], "they are made once for both"
    assert staged["split"].config.parts == 2 and "align.2" in staged and "align.3" not in staged


def test_what_cuts_the_data_is_no_setting_of_a_round(load):
    config = by_name(load("align.options={stages: 3, order: given, beta: 0.3}"))["align.2"].config
    assert config.options == {"beta": 0.3}


def test_without_pairs_it_is_refused_as_dpo_is():
    data = {"unpaired": [{"path": "file.jsonl"}]}
    with pytest.raises(RecipeError, match="sdpo needs preferences"):
        nodes(Recipe.model_validate({"data": data, "model": {"path": "m"}, "align": {"method": "sdpo"}}))


@pytest.mark.parametrize(("stages", "words"), [(1, "stages"), (1001, "stages")])
def test_a_number_of_stages_out_of_its_bounds_is_refused(load, stages, words):
    with pytest.raises(RecipeError, match=words):
        nodes(load(f"align.options={{stages: {stages}}}"))


def test_a_name_without_a_round_selects_all_rounds_and_one_with_it_that_round(load):
    steps = nodes(load())
    assert selected(steps, Selection(force=("align",)))[1] == {"align.1", "align.2", "align.3"}
    assert selected(steps, Selection(force=("align.2",)))[1] == {"align.2"}
    assert selected(steps, Selection(start="align.3"))[1] == {"align.3", "evaluate", "report"}
    assert selected(steps, Selection(start="align"))[1] == {"align.1"} | downstream(steps, "align.1")
    until = [node.name for node in selected(steps, Selection(until="align.2"))[0]]
    assert until[-1] == "align.2" and "reference.3" not in until and "align.1" in until
    assert [node.name for node in selected(steps, Selection(until="align"))[0]][-1] == "align.3"
    with pytest.raises(RecipeError, match=r"no step 'align.4'"):
        selected(steps, Selection(only="align.4"))


def test_only_lacks_what_the_run_itself_does_not_make(load, store):
    assert missing_for(load(), "align", store)[-2:] == ["split", "reference.1"]
    publish_all(load(), store, until="align.2")
    assert missing_for(load(), "align.2", store) == [] and missing_for(load(), "align", store) == []
    assert missing_for(load(), "align.3", store) == ["align.2", "reference.3"]


def test_a_plan_goes_round_by_round(load, store):
    publish_all(load(), store, until="align.2")
    states = {step.name: (step.state, step.why) for step in plan(load(), store)}
    assert states["align.1"][0] == states["reference.2"][0] == "cached"
    assert states["align.2"][0] == "run" and states["reference.3"] == ("after", "align.2")


def test_another_beta_runs_all_rounds_again_and_no_reference_of_the_first(load, store):
    publish_all(load(), store)
    states = {step.name: step.state for step in plan(load("align.options={stages: 3, order: given, beta: 0.3}"), store)}
    assert states["split"] == states["reference.1"] == "cached" and states["align.1"] == "run"
    step = next(each for each in plan(load("align.learning_rate=0.5"), store) if each.name == "align.1")
    assert "config.align.learning_rate" in step.why, "what differs is named as `--set` names it"


def state_after(store, recipe, texts, last="report"):
    """Step -> state of a plan, after `split` was made with these texts in its parts, and every step up to `last`."""
    caller, made = Caller(recipe, store), {}
    parts = {f"part.{number}": text for number, text in enumerate(texts, 1)}
    for node in caller.nodes:
        call = caller.call(node, {name: manifest.ref() for name, manifest in made.items()})
        made[node.name] = store.find(call.key) or publish(store, call, texts=parts if node.name == "split" else None)
        if node.name == last:
            break
    return {step.name: step.state for step in plan(recipe, store)}


def test_one_part_more_by_source_runs_its_own_round_alone_and_another_part_runs_from_its_round_on(load, store):
    recipe = load("align.options={stages: 2, order: sources}")
    assert set(state_after(store, recipe, ["one", "two"]).values()) == {"cached"}
    more = state_after(store, load("align.options={stages: 3, order: sources}"), ["one", "two", "three"], "split")
    assert more["align.1"] == more["reference.2"] == more["align.2"] == "cached" and more["reference.3"] == "run"
    moved = state_after(store, load("align.options={stages: 2, order: given}"), ["one", "other"], "split")
    assert moved["align.1"] == "cached" and moved["reference.2"] == "run" and moved["align.2"] == "after"


def test_a_stage_by_itself_is_all_its_rounds_with_what_serves_them_or_one_round(load, store):
    caller = Caller(load("align.options={stages: 2}"), store)
    rounds = {"reference.1", "align.1", "reference.2", "align.2"}
    assert steps_of(caller, "align", follow=False) == {"reference", "split", *rounds}
    assert steps_of(caller, "align.2", follow=True) == {
        "reference",
        "split",
        "reference.2",
        "align.2",
        "evaluate",
        "report",
    }


def test_inputs_of_one_round_are_those_of_the_round_before(load, store):
    recipe = load()
    made = publish_all(recipe, store, until="align.2")
    caller = Caller(recipe, store)
    found = find_inputs(caller, steps_of(caller, "align.2", follow=False), "align.2", {})
    assert found.calls["align.1"].key == made["align.1"].key
    other = find_inputs(caller, steps_of(caller, "align.2", follow=False), "align.2", {"policy": made["sft"].key[:20]})
    assert other.calls["align.1"].key == made["sft"].key and other.foreign == {"align.1"}
    whole = find_inputs(caller, steps_of(caller, "align", follow=False), "align", {"policy": made["sft"].key[:20]})
    assert whole.calls["sft"].key == made["sft"].key, "of all rounds only the first takes it from outside"
    with pytest.raises(UserError, match=r"align.1 takes no 'polic'"):
        find_inputs(caller, steps_of(caller, "align", follow=False), "align", {"polic": "x"})


def test_the_deployed_stage_has_a_round_and_the_report_takes_artifacts_by_their_steps():
    assert stage_flow("align").parameters.properties["round"]["maximum"] == 1000
    form = stage_flow("report").fn.__annotations__["inputs"]
    assert named_inputs(form(steps={"align.2": "align-1"})) == {"align.2": "align-1"}


@pytest.fixture
def aligned(store, tmp_path):
    """Put a result of `align` with this accuracy into the store; returns its reference."""

    def make(key, accuracy):
        folder = tmp_path / key
        folder.mkdir()
        (folder / "note.txt").write_text(key)
        file = as_artifact(folder, store.root, key).parent / "manifest.json"
        metrics = {"rewards/accuracies": accuracy}
        manifest = Manifest.model_validate_json(file.read_text()).model_copy(update={"metrics": metrics})
        file.write_text(manifest_text(manifest))
        return manifest.ref()

    return make


def test_a_gate_on_a_stage_holds_for_each_round_and_says_which(store, aligned):
    recipe = Recipe(gates=[{"stage": "align", "metric": "rewards/accuracies", "minimum": 0.5}])
    heard = []
    keeper = Gatekeeper(recipe, (), store, heard.append, lambda *_: None)
    assert keeper.lets_on("align.1", aligned("align-a", 0.9))
    with pytest.raises(GateStoppedError, match=r"rewards/accuracies of align\.2 is 0\.1(.|\n)*nothing after align\.2"):
        keeper.lets_on("align.2", aligned("align-b", 0.1))
    assert [(record.gate, record.stage) for record in heard] == [
        ("align.rewards/accuracies", "align.1"),
        ("align.rewards/accuracies", "align.2"),
    ]
    one = Recipe(gates=[{"stage": "align.2", "metric": "rewards/accuracies", "minimum": 0.5}])
    assert Gatekeeper(one, (), store, heard.append, lambda *_: None).lets_on("align.1", aligned("align-c", 0.1))


def test_a_gate_names_a_round_or_all_of_them_and_a_plan_shows_each(load, store):
    gate = {"metric": "rewards/accuracies", "minimum": 0.5}
    with pytest.raises(RecipeError, match=r"no step 'align\.4'"):
        nodes(load().model_copy(update={"gates": Recipe(gates=[{"stage": "align.4", **gate}]).gates}))
    recipe = load().model_copy(update={"gates": Recipe(gates=[{"stage": "align", **gate}]).gates})
    accuracies = {f"align.{n}": {"rewards/accuracies": n / 4} for n in (1, 2, 3)}
    publish_all(recipe, store, metrics=accuracies)
    now = [text for _, text in standing(recipe, plan(recipe, store), store)]
    assert now == ["align.1 0.25: stopped", "align.2 passes: 0.5", "align.3 passes: 0.75"]


def test_a_round_is_estimated_as_a_training_on_its_share_of_the_pairs(load, store, monkeypatch):
    shares = []
    monkeypatch.setattr(capacity, "nearest_run", lambda *_: EarlierRun(1.0, 1.0, None))
    monkeypatch.setattr(capacity, "implied_tokens", lambda stage, *_, share=1.0: shares.append((stage, _[-1])))
    needs = {need.name: need for need in Estimator(load(), store).needs(plan(load(), store))}
    assert [share for stage, share in shares if stage == "align"] == [1 / 3] * 3
    assert {share for stage, share in shares if stage in ("sft", "reward")} == {1.0}
    assert needs["align.1"].memory.peak.total == needs["align.3"].memory.peak.total > 0
    assert needs["split"].memory is None and not needs["split"].unknown


def test_of_what_a_round_cannot_hold_the_change_names_the_section(load, store):
    build = "model.build={hidden_size: 4096, num_hidden_layers: 32, intermediate_size: 11008, vocab_size: 32000}"
    machine = Machine(memory=64 << 30, available=60 << 30, free_disk=1 << 44)
    large = load(build)
    needs = {need.name: need for need in Estimator(large, store, machine).needs(plan(large, store))}
    reason, *changes = needs["align.2"].too_large
    assert reason.startswith("align.2 needs about") and any("align.lora" in line for line in changes)
    assert not any("align.2." in line for line in changes)


def test_a_sweep_takes_the_metrics_of_the_last_round_and_the_time_of_all(load, store):
    made = publish_all(load(), store, metrics={f"align.{n}": {"loss": float(n)} for n in (1, 2, 3)})
    result = Result("sdpo", "pairs", 1e-5)
    _take(result, made)
    assert result.metrics["loss"] == 3.0 and result.key == made["align.3"].key and result.seconds == 4.5


def test_the_aligned_model_that_is_shown_is_that_of_the_last_round(load, store):
    made = publish_all(load(), store)
    outcomes = [
        Outcome(name=name, ref=ArtifactRef.model_validate(m.ref()), ran=True, seconds=0) for name, m in made.items()
    ]
    assert result_paths(outcomes, store)["aligned model"] == store.payload(made["align.3"].ref())
