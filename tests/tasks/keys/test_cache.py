"""Prefect's cache has a record exactly where the store has the whole artifact."""

import shutil

import pytest
from prefect import flow
from prefect.states import State

from alignflow.tasks.launch.stage_task import stage_task


@pytest.fixture
def run(store):
    """Run a toy call in a flow; returns the final state of the task and its value."""

    def run_once(call, force=False):
        @flow(name="one", persist_result=False)
        def one() -> tuple[State, dict]:
            state = stage_task("toy", store, force)(call, return_state=True)
            return state.name, state.result()

        return one()

    return run_once


def test_a_damaged_artifact_is_a_miss_and_then_a_hit_again(call_of, run, store):
    ref = run(call_of())[1]["ref"]
    shutil.rmtree(store.directory(ref["key"]) / "payload")
    assert [run(call_of())[0], run(call_of())[0]] == ["Completed", "Cached"]


def test_an_artifact_that_prefect_never_saw_is_a_hit(call_of, run, store):
    run(call_of())
    shutil.rmtree(store.root / "prefect")
    assert run(call_of())[0] == "Cached"


def test_a_planted_record_without_an_artifact_is_a_miss(call_of, run, store):
    call = call_of()
    results = store.root / "prefect" / "results"
    results.mkdir(parents=True)
    (results / call.key).write_text('{"__class__": "builtins.print", "data": ["planted"]}')
    assert run(call)[0] == "Completed"
