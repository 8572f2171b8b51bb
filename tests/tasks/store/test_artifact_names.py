"""A step, `last` and the name of a run mean the newest one."""

import shutil

import pytest
from run_support import record_run
from tests_support import as_artifact

from alignflow.data.errors import StageError, UserError
from alignflow.tasks.store.artifact_names import is_name


@pytest.fixture
def artifact(store, tmp_path):
    (tmp_path / "payload").mkdir()

    def make(key, kind="checkpoint"):
        as_artifact(tmp_path / "payload", store.root, key, kind)
        return store.manifest(key)

    return make


@pytest.fixture
def runs(store, artifact):
    """Two runs: `one`, and after it `two`, which ended in a report."""
    record_run(store, {"init": artifact("init-1"), "sft": artifact("sft-1")}, "one")
    later = {"sft": artifact("sft-2"), "label": artifact("label-2", "dataset"), "align": artifact("align-2")}
    record_run(store, later | {"report": artifact("report-2", "report")}, "two")


def test_a_step_means_what_the_newest_run_took_for_it(store, runs, artifact):
    artifact("sft-3")  # made by nobody's run
    assert store.resolve("sft").key == "sft-2" and store.resolve("init").key == "init-1"


def test_a_step_that_another_stage_did_is_found_by_its_name(store, artifact):
    record_run(store, {"sft": artifact("init-9")})
    assert store.resolve("sft").key == "init-9"


def test_of_rounds_the_last_one_is_meant_and_each_has_its_name(store, artifact):
    record_run(store, {"align.1": artifact("align-1"), "align.2": artifact("align-2")})
    assert store.resolve("align").key == "align-2" and store.resolve("align.1").key == "align-1"


def test_without_a_run_a_step_means_the_newest_of_its_stage(store, artifact):
    artifact("align-1")
    assert store.resolve("align").key == "align-1"
    with pytest.raises(UserError, match="no artifact matches 'reward'"):
        store.resolve("reward")


def test_last_and_a_name_mean_a_run_and_the_command_says_which_of_its_artifacts(store, runs):
    assert store.resolve("last").key == store.resolve("two").key == "report-2"
    assert store.resolve("last", ("checkpoint",)).key == "align-2"
    assert store.resolve("two", ("dataset",)).key == "label-2"
    assert store.resolve("one").key == "sft-1"


def test_runs_before_the_newest_are_counted_back(store, runs):
    assert store.resolve("last~1").key == "sft-1"
    with pytest.raises(UserError, match="there are 2 such runs that ended"):
        store.resolve("last~2")


def test_a_run_that_failed_is_not_the_last_one_but_its_steps_count(store, runs, artifact):
    record_run(store, {"sft": artifact("sft-4")}, "two", error=StageError("it broke"))
    assert store.resolve("last").key == "report-2" and store.resolve("sft").key == "sft-4"


def test_what_is_no_longer_there_is_said(store, runs):
    with pytest.raises(UserError, match="no run has ended yet"):
        shutil.rmtree(store.root / "runs")
        store.resolve("last")


def test_a_run_whose_artifacts_are_gone_says_so(store, artifact):
    record_run(store, {"sft": artifact("sft-1")})
    shutil.rmtree(store.directory("sft-1"))
    with pytest.raises(UserError, match="no longer in the store"):
        store.resolve("mine")


def test_names_are_told_from_paths_of_the_hub_without_a_store(store, runs, tmp_path):
    assert all(is_name(store.root, text) for text in ("sft", "align.2", "last", "last~1", "two", "two~1"))
    assert not is_name(store.root, "gpt2") and not is_name(tmp_path / "nothing", "two")
    assert not (tmp_path / "nothing").exists()
