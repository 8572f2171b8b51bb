"""A run passes its gates after each step: what goes on, what ends, what is written down, and for how long it holds."""

import getpass
import json
from types import SimpleNamespace

import pytest
from flow_support import publish
from tests_support import as_artifact

from alignflow.data.artifacts import Manifest, manifest_text
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import ApprovalNeededError, GateStoppedError, RecipeError
from alignflow.data.records import write_table
from alignflow.flows import pipeline
from alignflow.flows.gates import Gatekeeper
from alignflow.flows.inputs import Inputs
from alignflow.flows.means import Means
from alignflow.flows.steps import Link, Node
from alignflow.tasks.launch.call import StageResult
from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.gc import collect


@pytest.fixture
def made(store, tmp_path):
    """Put an artifact of a stage with metrics, and pairs with ids, into the store; returns its reference."""

    def make(key="label-1", ids=("a", "b"), **metrics):
        folder = tmp_path / f"made-{key}"
        write_table([{"id": name} for name in ids], "preferences", folder / "preferences" / "train.parquet")
        payload = as_artifact(folder, store.root, key, kind="dataset")
        file = payload.parent / "manifest.json"
        manifest = Manifest.model_validate_json(file.read_text()).model_copy(update={"metrics": metrics})
        file.write_text(manifest_text(manifest))
        return manifest.ref()

    return make


@pytest.fixture
def keeper(store):
    """A gatekeeper with one gate on `pairs` of label."""

    def make(approve=(), answer=None, name="run", **fields):
        gate = {"stage": "label", "metric": "pairs", "minimum": 10, **fields}
        heard = []
        made = Gatekeeper(Recipe(name=name, gates=[gate]), tuple(approve), store, heard.append, lambda *_: answer)
        made.heard = heard
        return made

    return make


def verdicts(store, key="label-1"):
    return [record.verdict for record in GateLedger(store).records(key)]


def test_a_value_inside_the_limits_lets_the_run_on(made, keeper, store):
    assert keeper().lets_on("label", made(pairs=10.0)) and verdicts(store) == ["passed"]


def test_a_gate_is_checked_after_its_own_step_alone(made, keeper, store):
    assert keeper().lets_on("sample", made(pairs=1.0)) and verdicts(store) == []


def test_stop_says_what_was_measured_what_was_asked_for_and_what_to_do(made, keeper, store):
    with pytest.raises(GateStoppedError) as stopped:
        keeper(why="fewer teach nothing").lets_on("label", made(pairs=4.0))
    text = str(stopped.value)
    assert (
        "pairs of label is 4, and should be at least 10" in text
        and "--approve label.pairs" in text
        and "fewer teach nothing" in text
    )
    assert stopped.value.exit_status == 4 and verdicts(store) == ["stopped"]


def test_warn_goes_on_and_end_ends_as_finished(made, keeper, store):
    ref = made(pairs=4.0)
    assert keeper(action="warn").lets_on("label", ref) is True
    assert keeper(action="end").lets_on("label", ref) is False
    assert verdicts(store) == ["warned", "ended"]


def test_ask_waits_for_approve_and_remembers_it(made, keeper, store):
    ref = made(pairs=4.0)
    with pytest.raises(ApprovalNeededError, match="a person has to decide") as waits:
        keeper(action="ask").lets_on("label", ref)
    assert waits.value.exit_status == 3
    assert keeper(action="ask", approve=["label.pairs"]).lets_on("label", ref)
    assert keeper(action="ask").lets_on("label", ref), "asked once"
    assert verdicts(store) == ["asked", "approved"]
    assert GateLedger(store).records("label-1")[-1].who == getpass.getuser()
    with pytest.raises(ApprovalNeededError):
        keeper(action="ask", minimum=11).lets_on("label", ref)


def test_an_approval_holds_for_equal_bytes_under_another_key_and_for_no_others(made, keeper):
    assert keeper(approve=["label.pairs"]).lets_on("label", made(pairs=4.0))
    assert keeper().lets_on("label", made("label-2", pairs=4.0))
    with pytest.raises(GateStoppedError):
        keeper().lets_on("label", made("label-3", ids=("c",), pairs=4.0))


@pytest.mark.parametrize(("yes", "verdict"), [(True, "approved"), (False, "refused")])
def test_what_a_person_answers_is_written_down(yes, verdict, made, keeper, store):
    ref = made(pairs=4.0)
    asked = keeper(action="ask", answer=(yes, "Ann", "looked at ten of them"))
    if yes:
        assert asked.lets_on("label", ref)
    else:
        with pytest.raises(GateStoppedError, match="refused by Ann"):
            asked.lets_on("label", ref)
    last = GateLedger(store).records("label-1")[-1]
    assert (last.verdict, last.who, last.comment, last.value, last.override) == (
        verdict,
        "Ann",
        "looked at ten of them",
        4.0,
        False,
    )


def test_a_refusal_is_asked_again_by_the_next_run(made, keeper):
    ref = made(pairs=4.0)
    with pytest.raises(GateStoppedError):
        keeper(action="ask", answer=(False, "Ann", "")).lets_on("label", ref)
    assert keeper(action="ask", answer=(True, "Ben", "")).lets_on("label", ref)


def test_an_override_of_a_stop_is_marked(made, keeper, store):
    assert keeper(approve=["label.pairs"]).lets_on("label", made(pairs=None))
    (record,) = GateLedger(store).records("label-1")
    assert record.override and record.value is None


def test_a_wrong_metric_or_a_wrong_name_to_approve_is_refused(made, keeper):
    with pytest.raises(RecipeError, match="it has pairs"):
        keeper(metric="pair").lets_on("label", made(pairs=1.0))
    with pytest.raises(RecipeError, match="no gate 'label.pair' to approve"):
        keeper(approve=["label.pair"])


def test_the_same_verdict_is_written_once_and_told_once(made, keeper, store):
    ref, one = made(pairs=12.0), keeper()
    assert one.lets_on("label", ref) and one.lets_on("label", ref) and keeper().lets_on("label", ref)
    assert verdicts(store) == ["passed"] and len(one.heard) == 1


def test_new_rows_count_from_what_the_gate_last_let_through(made, keeper, store):
    new = {"metric": "new/preferences/train", "minimum": 2, "action": "end"}

    def values():
        return [
            (record.key[-1], record.value, record.verdict)
            for record in GateLedger(store).of_gate(keeper(**new)._recipe.gates[0], "label-1")
        ]

    assert keeper(**new).lets_on("label", made("label-1", "ab"))
    assert not keeper(**new).lets_on("label", made("label-2", "abc")), "one new row"
    assert keeper(**new).lets_on("label", made("label-3", "abcd")), "those that were too few count again"
    assert not keeper(**new).lets_on("label", made("label-4", "abce"))
    assert values() == [("1", 2.0, "passed"), ("2", 1.0, "ended"), ("3", 2.0, "passed"), ("4", 1.0, "ended")]
    assert keeper(**new).lets_on("label", store.manifest("label-3").ref()), (
        "a run that goes on after a crash is let through again"
    )
    assert keeper(name="other", **new).lets_on("label", store.manifest("label-4").ref()), (
        "another recipe counts for itself"
    )


def test_a_wrong_table_is_refused_with_those_that_there_are(made, keeper):
    with pytest.raises(RecipeError, match="new/preferences/train"):
        keeper(metric="new/preferences/heldout").lets_on("label", made(pairs=1.0))


def test_gc_takes_verdicts_away_with_their_artifacts(made, keeper, store):
    keeper().lets_on("label", made(pairs=12.0))
    assert store.root / "gates" / "label-1" not in collect(store, ["label-1"], 0)
    assert store.root / "gates" / "label-1" in collect(store, [], 0)


@pytest.mark.parametrize(("value", "walked"), [(12.0, ["label", "reward"]), (4.0, ["label"])])
def test_a_walk_does_nothing_after_a_gate_that_ends_it(value, walked, made, keeper, store, monkeypatch):
    refs = {"label": made(pairs=value), "reward": made("reward-1")}
    monkeypatch.setattr(
        pipeline, "_do", lambda call, *_: pipeline.Outcome(name=call.name, ref=refs[call.name], ran=False, seconds=0)
    )

    class Caller:
        def call(self, node, made):
            return SimpleNamespace(config={}, name=node.name)

    caller, done = Caller(), {}
    caller.store = store
    chosen = [Node("label", "label", None), Node("reward", "reward", None, {"preferences": Link("label")})]
    caller.nodes = chosen
    pipeline._pass(pipeline._Walk(caller, chosen, set(), pipeline.Narrator(), Inputs(), keeper(action="end")), done)
    assert list(done) == walked


def test_a_half_written_verdict_counts_for_nothing(made, keeper, store):
    keeper().lets_on("label", made(pairs=12.0))
    folder = store.root / "gates" / "label-1"
    (folder / "99.json").write_text(json.dumps({"gate": "label.pairs"})[:-3])
    (folder / ".100-1").write_text("{")
    assert verdicts(store) == ["passed"]


def test_a_run_that_starts_again_does_not_force_what_it_made_already(made, store):
    ref = made()  # on the first of January
    (store.directory(ref.key) / "stat.json").write_text("{}")
    assert pipeline._made_since(ref.key, "2025-12-31T23:59:59.000+00:00", store)
    assert not pipeline._made_since(ref.key, "2026-01-02T00:00:00.000+00:00", store)
    assert not pipeline._made_since(ref.key, "", store), "outside of a flow run there is no earlier start"


def test_a_gate_on_an_ensemble_is_asked_of_it_and_not_of_its_members(store, repository, monkeypatch):
    measured = {"reward": {"disagreement": 0.2}}
    asked = []

    def step(call, store, force, found):
        manifest = store.find(call.key) or publish(store, call, metrics=measured.get(call.name))
        return StageResult(ref=manifest.ref(), ran=not found)

    monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
    gate = "gates=[{stage: reward, metric: disagreement, maximum: 0.5}, {stage: reward.2, metric: loss, maximum: 1}]"
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", ("reward.members=2", gate))
    measured["reward.2"] = {"loss": 0.7}
    pipeline.walk(recipe, pipeline.Selection(), store, pipeline.Narrator(gates=asked.append))
    assert [(record.stage, record.verdict) for record in asked] == [("reward.2", "passed"), ("reward", "passed")]
