"""A run keeps what its later steps will take, whatever gc does beside it."""

import pytest
from flow_support import publish

from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import StageError
from alignflow.data.sharing import Sharing
from alignflow.flows import pipeline
from alignflow.flows.means import Means
from alignflow.flows.pipeline import Narrator, Selection, walk
from alignflow.flows.requests import RunRequest
from alignflow.tasks.launch.call import StageResult
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gc import Collection, Wish
from alignflow.tasks.store.run_records import records


def collect(store):
    """Run gc, which is to keep nothing; returns how many entries it removed."""
    collection = Collection(ArtifactStore(store.root), Wish(keep_last=0, unused_for_s=0))
    return sum(not why for _, why in collection.remove(collection.plan().waste))


@pytest.mark.parametrize("shared", [False, True], ids=["store", "shared"])
def test_gc_between_any_two_steps_takes_nothing_from_the_run(store, repository, monkeypatch, shared):
    if shared:
        store.share(Sharing())
    recipe, removed = load_recipe(repository / "recipes" / "tiny.yaml"), []

    def step(call, store, force, found):
        removed.append(collect(store))
        manifest = store.find(call.key) or publish(store, call)
        removed.append(collect(store))
        return StageResult(ref=manifest.ref(), ran=not found)

    monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
    made = walk(recipe, Selection(), store, Narrator())
    assert len(made) == 10 and not any(removed) and all(store.find(outcome.ref.key) for outcome in made)
    again = walk(recipe, Selection(), store, Narrator())
    assert not any(outcome.ran for outcome in again) and not any(removed)
    assert collect(store) >= 10, "once the run has ended they are as free as before"


def test_a_run_leaves_a_record_of_what_was_asked_and_of_what_it_took(store, repository, monkeypatch):
    def step(call, store, force, found):
        if call.name == "align":
            raise StageError("it broke", where="align")
        return StageResult(ref=(store.find(call.key) or publish(store, call)).ref(), ran=not found)

    monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
    request = RunRequest(str(repository / "recipes" / "tiny.yaml"), (("align.options.beta", 0.3),))
    walk(request.recipe(), Selection(until="sft"), store, Narrator(), request)
    with pytest.raises(StageError):
        walk(request.recipe(), Selection(), store, Narrator(), request)
    failed, done = records(store)
    assert list(done.steps) == done.ran == ["init", "prepare", "sft"] and done.state == "done"
    assert failed.state == "failed" and failed.ran == ["sample", "label", "reward", "reference"]
    assert failed.steps["sft"] == done.steps["sft"] and failed.error == "align: it broke"
    assert done.asked.settings == {"align.options.beta": 0.3} and done.asked.file == request.path
    assert done.asked.recipe["align"]["options"] == {"beta": 0.3} and done.asked.name == "tiny"
    assert (done.asked.until, done.asked.only, failed.asked.until) == ("sft", "", "")


def test_a_run_names_the_rows_that_nothing_takes(store, repository, monkeypatch):
    def step(call, store, force, found):
        metrics = {"preferences/kept": 12.0} if call.name == "prepare" else None
        return StageResult(ref=(store.find(call.key) or publish(store, call, metrics=metrics)).ref(), ran=not found)

    monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
    data = {kind: [{"path": "examples/quickstart/prompts.jsonl.gz"}] for kind in ("unpaired", "preferences", "prompts")}
    content = {"data": data, "align": {"method": "kto"}, "reward": None, "evaluate": None, "report": None}
    monkeypatch.chdir(repository)
    told = []
    walk(Recipe.model_validate(content), Selection(), store, Narrator(remarks=told.append))
    assert told == ["data.preferences: no step of the recipe takes its 12 rows; kto reads unpaired"]


def test_the_report_is_told_which_steps_were_found_and_has_the_same_key_for_it(store, repository, monkeypatch):
    calls = []

    def step(call, store, force, found):
        calls.append(call)
        return StageResult(ref=(store.find(call.key) or publish(store, call)).ref(), ran=not found)

    monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    walk(recipe, Selection(until="sft"), store, Narrator())
    walk(recipe, Selection(), store, Narrator())
    walk(recipe, Selection(), store, Narrator())
    first, second = (call for call in calls if call.name == "report")
    assert first.config["found"] == ["init", "prepare", "sft"] and "align" in second.config["found"]
    assert first.key == second.key
