"""What a run sends to a tracker: all steps, also those that were found; and nothing that fails there ends the run."""

import pytest
from compared_support import finished_step
from flow_support import publish

from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.tracking import TrackingConfig
from alignflow.data.errors import StageError, UserError
from alignflow.flows import pipeline, tracking
from alignflow.flows.calls import Caller
from alignflow.flows.means import Means
from alignflow.flows.pipeline import Narrator, Selection, walk
from alignflow.flows.tracking import LONGEST_VALUE, parameters_of, tracked_step
from alignflow.tasks.launch.call import StageResult
from alignflow.tasks.store.run_records import records

UNTIL = Selection(until="sft")


class Recorded:
    """A tracker that keeps what it is sent, and fails where it is told to."""

    def __init__(self, fails=()):
        self.fails, self.steps, self.states, self.run = fails, [], [], None

    def step(self, step):
        if step.name in self.fails:
            raise ConnectionError("the server is away")
        self.steps.append(step)

    def end(self, state):
        self.states.append(state)

    def where(self):
        return "here"


@pytest.fixture
def tracker(monkeypatch):
    """Has runs send to a `Recorded`, whose package counts as installed."""
    made = Recorded()

    def begin(config, run):
        if made.fails == "all":
            raise OSError("no route to http://me:secret@host")
        made.run = run
        return made

    monkeypatch.setattr(tracking, "open_tracker", begin)
    monkeypatch.setattr(pipeline, "check_tracker", lambda config: None)
    return made


@pytest.fixture
def run(store, repository, monkeypatch):
    """Walk the tiny recipe up to `sft` with a tracker, or without one; returns what the walk remarked."""

    def do(fails="", tracked=True):
        def step(call, store, force, found):
            if call.name == fails:
                raise StageError("it broke", where=call.name)
            return StageResult(ref=(store.find(call.key) or publish(store, call)).ref(), ran=not found)

        monkeypatch.setattr(pipeline, "means", lambda: Means(do=step, ask=lambda gate, record: None, begun=lambda: ""))
        told = []
        recipe = load_recipe(repository / "recipes" / "tiny.yaml")
        chosen = TrackingConfig(name="mlflow") if tracked else None
        walk(recipe.model_copy(update={"tracking": chosen}), UNTIL, store, Narrator(remarks=told.append))
        return [text for text in told if text.startswith("track")]

    return do


def test_a_run_is_sent_under_its_name_with_its_settings_and_each_step(run, tracker, store):
    assert run() == ["tracked: here"]
    (record,) = records(store)
    assert (tracker.run.name, tracker.run.id) == ("tiny", record.id)
    assert tracker.run.parameters["align.method"] == "dpo"
    assert [(step.name, step.cached) for step in tracker.steps] == [("init", False), ("prepare", False), ("sft", False)]
    assert [step.key for step in tracker.steps] == list(record.steps.values()) and tracker.states == ["finished"]


def test_steps_that_are_found_are_sent_too_and_marked(run, tracker):
    run()
    tracker.steps.clear()
    run()
    assert [step.cached for step in tracker.steps] == [True, True, True]


def test_a_step_that_cannot_be_sent_is_counted_and_told_once_at_the_end(run, tracker):
    tracker.fails = ("prepare",)
    told = run()
    assert told[0] == "tracked: here" and "1 of 3 steps were not sent to mlflow" in told[1]
    assert "ConnectionError: the server is away" in told[1] and [step.name for step in tracker.steps] == ["init", "sft"]


def test_a_tracker_that_is_not_reached_costs_one_warning_and_never_the_run(run, tracker, store):
    tracker.fails = "all"
    (told,) = run()
    assert "3 of 3 steps were not sent" in told and "no route to" in told
    assert next(records(store)).state == "done"
    assert "secret" not in told and "http://...@host" in told, "a login is shown to nobody"


def test_a_run_that_fails_is_told_to_the_tracker(run, tracker):
    with pytest.raises(StageError):
        run(fails="sft")
    assert tracker.states == ["failed"] and [step.name for step in tracker.steps] == ["init", "prepare"]


def test_nothing_is_sent_unless_the_recipe_asks(run, tracker):
    assert run(tracked=False) == [] and tracker.run is None


def test_a_tracker_that_cannot_be_used_is_refused_before_anything_runs(run, monkeypatch, store):
    def refuse(config):
        raise UserError("mlflow is not installed", where="tracking", do="install it")

    monkeypatch.setattr(pipeline, "check_tracker", refuse)
    with pytest.raises(UserError, match="not installed"):
        run()
    assert not list(records(store))


def test_a_tracker_is_in_no_key(store, repository):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    with_tracker = recipe.model_copy(update={"tracking": TrackingConfig(name="wandb", mode="offline")})
    first, second = (Caller(each, store) for each in (recipe, with_tracker))
    assert first.call(first.nodes[0], {}).key == second.call(second.nodes[0], {}).key


def test_curves_and_metrics_are_those_of_the_artifact(store):
    curves = [{"step": 1, "loss": 0.5}]
    step = finished_step(store.root, "align", "align-1", curves=curves, metrics={"kl": 0.25, "flip_rate": None})
    sent = tracked_step(step, step.manifest.ref(), False, [])
    assert sent.points == curves and sent.metrics == {"kl": 0.25} and sent.digest == step.manifest.digest


def test_curves_that_changed_on_disk_are_not_sent_and_told(store):
    step = finished_step(store.root, "align", "align-1", curves=[{"step": 1, "loss": 0.5}])
    (step.side / "curves.jsonl").write_text("{}\n")
    notes = []
    assert tracked_step(step, step.manifest.ref(), True, notes).points == []
    assert notes == ["tracking: the curves of align changed on disk and were not sent"]


def test_a_long_setting_is_cut_and_says_so(repository):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", ["model.licence=" + "x" * 600])
    found = parameters_of(recipe)["model.licence"]
    assert len(found) <= LONGEST_VALUE and found.endswith("[cut: 600 characters]")
    assert not [place for place in parameters_of(recipe) if place.startswith("tracking")]
