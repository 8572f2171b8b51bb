"""Prefect shows `Cached` exactly when the store has the whole artifact; it holds no truth of its own."""

import pytest
from prefect import flow
from prefect.states import State

from alignflow.data.errors import DataError
from alignflow.tasks.keys.cache import StoreKeyStorage
from alignflow.tasks.launch.stage_task import run_as_task, stage_task


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


def test_a_second_run_is_cached_and_returns_the_same_reference(call_of, run):
    first, second = run(call_of()), run(call_of())
    assert (first[0], second[0]) == ("Completed", "Cached")
    assert first[1]["ref"] == second[1]["ref"] and (first[1]["ran"], second[1]["ran"]) == (True, False)


def test_another_key_is_not_cached(call_of, run):
    run(call_of())
    assert run(call_of(text="other"))[0] == "Completed"
    assert run(call_of(version="2"))[0] == "Completed"


def test_force_runs_again(call_of, run):
    run(call_of())
    assert run(call_of(), force=True)[0] == "Completed"


def test_what_another_run_made_while_this_one_waited_is_taken_and_shown_as_cached(call_of, run, store, monkeypatch):
    made = run(call_of())[1]

    def not_there_yet(self, path, _sync=True):
        raise FileNotFoundError(path)

    monkeypatch.setattr(StoreKeyStorage, "read_path", not_there_yet)  # Prefect asks before the lock is free
    assert run(call_of())[0] == "Cached"

    @flow(name="waiting", persist_result=False)
    def waiting():
        return run_as_task(call_of(), store).model_dump()

    assert waiting() == {**made, "ran": False}


def test_an_error_of_a_stage_reaches_the_flow_as_it_was_raised(call_of, store):
    @flow(name="failing", persist_result=False)
    def failing():
        run_as_task(call_of(act="refuse"), store)

    with pytest.raises(DataError, match="row 3: no good"):
        failing()
