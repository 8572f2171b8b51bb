"""Why a step has to run: what changed since the last run of the same recipe; else what differs from a similar artifact."""

import shutil

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.flows.calls import Caller
from alignflow.flows.reasons import Reasons, saved_step
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_records import Asked, recording


@pytest.fixture
def call(repository, store):
    """The first call of the tiny recipe with some settings."""

    def make(*settings):
        caller = Caller(load_recipe(repository / "recipes" / "tiny.yaml", settings), store)
        return caller.call(caller.nodes[0], {})

    return make


@pytest.fixture
def record(store):
    """Record a run of a recipe that found one artifact."""

    def make(name, ref):
        with using(store) as pins, recording(store, Asked(name=name), pins) as kept:
            kept.step("init", ref, ran=True)

    return make


MANY = (
    "model.build.hidden_size=64",
    "model.build.intermediate_size=256",
    "model.build.num_hidden_layers=3",
    "model.build.max_position_embeddings=512",
)


def test_nothing_like_it_in_the_store_is_the_first_time(call, store):
    assert Reasons(store, "tiny").why(call()) == "first time"


def test_an_artifact_that_differs_in_little_is_compared_with_and_one_of_another_kind_is_not(call, store, made):
    why = Reasons(store, "tiny").why
    assert why(call(*MANY[:1])) == "config.model.build.hidden_size 32 -> 64"
    assert why(call(*MANY)) == "first time"


def test_what_changed_since_the_last_run_of_the_recipe_is_told_however_much_it_is(call, store, made, record):
    record("tiny", made["init"])
    why = Reasons(store, "tiny").why(call(*MANY))
    assert why.count(" -> ") == 4 and "config.model.build.intermediate_size 64 -> 256" in why
    assert Reasons(store, "another").why(call(*MANY)) == "first time", "that was not its run"


def test_an_artifact_that_was_removed_since_is_told(call, store, made, record):
    record("tiny", made["init"])
    shutil.rmtree(store.directory(made["init"].key))
    assert Reasons(store, "tiny").why(call()) == "made before, but no longer in the store"
    assert Reasons(store, "tiny").why(call(*MANY)) == "first time", "there is nothing left that says what changed"


def test_a_training_that_was_stopped_resumes_after_its_newest_state(call, store):
    for step in (2, 12, 4):
        (store.work(call().key) / f"step-{step:08d}").mkdir(parents=True)
    (store.work(call().key) / ".step-00000014").mkdir()
    assert saved_step(store, call().key) == 12 and saved_step(store, "sft-1") is None
    assert Reasons(store, "tiny").why(call()) == "first time; resumes after step 12"
