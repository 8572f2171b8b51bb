"""The runs that a person names: all steps of a recorded run, or what led to an artifact; each with a name of its own."""

import shutil

import pytest
from compared_support import finished_step
from run_support import record_run

from alignflow.tasks.store.compared_runs import compared_runs


@pytest.fixture
def runs(store):
    """Two recorded runs of one name that share `sft`; `align` was made from it."""
    sft = finished_step(store.root, "sft", "sft-0f").manifest
    keys = []
    for digit in "ab":
        align = finished_step(store.root, "align", f"align-{digit}", inputs={"policy": sft.ref()}).manifest
        record_run(store, {"sft": sft, "align": align}, "same")
        keys.append(align.key)
    return keys


def compared(store, *texts):
    return compared_runs(store, texts, [store.resolve(text) for text in texts])


def test_runs_of_one_name_are_told_apart_by_what_the_person_wrote(runs, store):
    found = compared(store, "same", "same~1", "same")
    assert [run.name for run in found] == ["same", "same (same~1)", "same (same)"]
    assert [run.steps["align"].manifest.key for run in found] == [runs[1], runs[0], runs[1]]


def test_an_artifact_stands_for_what_led_to_it(runs, store):
    (run,) = compared(store, runs[0])
    assert list(run.steps) == ["sft", "align"] and run.name == runs[0]


def test_a_step_of_a_recorded_run_that_is_gone_is_told_and_the_rest_is_compared(runs, store):
    shutil.rmtree(store.directory("sft-0f"))
    (run,) = compared(store, "last")
    assert list(run.steps) == ["align"] and run.gone == ("sft",)
