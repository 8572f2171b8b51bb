"""A step, `last` and the name of a run mean the newest one."""

import shutil

import pytest
from run_support import record_run
from tests_support import as_artifact

from alignflow.data.errors import DamagedArtifactError, StageError, UserError
from alignflow.tasks.store.artifact_names import all_of_run, is_name, means_artifact, named_run, step_of_run


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
    with pytest.raises(UserError, match="only 2 such runs have ended"):
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


def damage(store, key):
    (store.directory(key) / "manifest.json").write_text("{")


def test_of_an_iterated_run_the_aligned_model_is_meant_and_not_the_reward_model_that_was_trained_last(store, artifact):
    models, made = ("checkpoint", "reward_model"), {"init": artifact("init-1")}
    for step, key in (("reward.1", "reward-1"), ("sft", "sft-1"), ("align.1", "align-1"), ("align.2", "align-2")):
        made[step] = artifact(key, "reward_model" if key == "reward-1" else "checkpoint")
    record_run(store, made | {"reward.2": artifact("reward-2", "reward_model")}, "iterated")
    record_run(store, made | {"merge": artifact("merge-1"), "align.2": artifact("align-3")}, "merged")
    record_run(store, {step: made[step] for step in ("reward.1", "sft")}, "tuned")
    record_run(store, {step: made[step] for step in ("init", "reward.1")}, "rewarded")
    meant = {name: store.resolve(name, models).key for name in ("iterated", "merged", "tuned", "rewarded")}
    assert meant == {"iterated": "align-2", "merged": "merge-1", "tuned": "reward-1", "rewarded": "reward-1"}
    assert store.resolve("iterated", ("reward_model",)).key == "reward-2"


def test_the_first_model_is_meant_only_where_the_run_made_no_other_and_labelled_nothing(store, artifact):
    made = {"init": artifact("init-1"), "prepare": artifact("prepare-1", "dataset")}
    record_run(store, made, "prepared")
    record_run(store, made | {"label": artifact("label-1", "dataset")}, "labelled")
    assert store.resolve("labelled", ("checkpoint", "dataset")).key == "label-1"
    assert store.resolve("labelled", ("checkpoint",)).key == store.resolve("prepared", ("checkpoint", "dataset")).key


def test_data_that_only_serves_the_alignment_is_meant_last_of_all(store, artifact):
    made = {step: artifact(f"{step}-1", "dataset") for step in ("label", "reference", "split")}
    record_run(store, {"sample": artifact("sample-1", "dataset"), **made}, "labelled")
    record_run(store, {"reference": made["reference"]}, "served")
    assert store.resolve("labelled", ("dataset",)).key == "label-1"
    assert store.resolve("served", ("dataset",)).key == "reference-1"


def test_runs_in_small_are_passed_over_while_there_is_another_and_found_by_their_names(store, runs, artifact):
    small = {"align": artifact("align-8"), "merge": artifact("merge-8")}
    record_run(store, small, "two-smoke", smoke=True)
    meant = {text: store.resolve(text, ("checkpoint",)).key for text in ("align", "last", "last~1", "two-smoke")}
    assert meant == {"align": "align-2", "last": "align-2", "last~1": "sft-1", "two-smoke": "merge-8"}
    assert store.resolve("merge").key == "merge-8", "no other run has the step"
    with pytest.raises(UserError, match="only 2 such runs"):
        store.resolve("last~2")


def test_where_all_runs_are_small_the_newest_of_them_is_the_last(store, artifact):
    record_run(store, {"align": artifact("align-8")}, "two-smoke", smoke=True)
    assert store.resolve("last").key == store.resolve("align").key == "align-8"


def test_an_artifact_that_is_not_meant_may_be_damaged_and_one_that_is_meant_is_not_replaced(store, runs):
    damage(store, "report-2")
    damage(store, "sft-2")
    assert store.resolve("last", ("checkpoint",)).key == "align-2"
    assert store.resolve("last", ("dataset",)).key == "label-2"
    damage(store, "align-2")
    for kinds in ((), ("checkpoint",)):
        with pytest.raises(DamagedArtifactError):
            store.resolve("last", kinds)


def test_a_step_of_a_run_is_what_that_run_took_for_it_or_for_its_last_round(store, runs, artifact):
    made = {f"sample.{number}": artifact(f"sample-{number}", "dataset") for number in (1, 2)}
    record_run(store, {"sft": artifact("sft-5"), **made}, "rounds")
    assert step_of_run(store, "two", "sft").key == "sft-2" and step_of_run(store, "last", "sft").key == "sft-5"
    assert step_of_run(store, "rounds", "sample").key == step_of_run(store, "rounds", "sample.3").key == "sample-2"
    assert step_of_run(store, "rounds", "sample.1").key == "sample-1"
    assert step_of_run(store, "rounds", "align") is None and step_of_run(store, "sft", "sft") is None


def test_a_step_of_a_run_whose_artifact_is_gone_is_not_replaced(store, runs):
    shutil.rmtree(store.directory("sft-2"))
    with pytest.raises(UserError, match="no longer in the store"):
        step_of_run(store, "two", "sft")


def test_a_run_is_named_by_last_and_its_name_and_by_no_step_key_or_path(store, runs, tmp_path, monkeypatch):
    assert (
        named_run(store, "last").steps == named_run(store, "two").steps
        and named_run(store, "last~1").asked.name == "one"
    )
    shutil.copytree(store.directory("sft-1"), tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    assert [named_run(store, text) for text in ("sft", "sft-1", "two", "three")] == [None] * 4


def test_all_of_a_run_is_what_is_left_of_its_steps(store, runs):
    shutil.rmtree(store.directory("label-2"))
    run = named_run(store, "last")
    assert [each.key for each in all_of_run(store, run, "last")] == ["sft-2", "align-2", "report-2"]


def test_where_a_path_or_a_hub_id_may_stand_the_bare_name_of_a_run_is_none_and_that_is_told(store, artifact, capsys):
    record_run(store, {"sft": artifact("sft-1")}, "gpt2")
    record_run(store, {"sft": store.manifest("sft-1")}, "broken", error=StageError("it broke"))
    assert all(
        means_artifact(store.root, text) for text in ("sft", "align.2", "last", "last~1", "gpt2~0", "sft-1", "abcdef")
    )
    assert not any(means_artifact(store.root, text) for text in ("broken", "bert~1", "gpt-2", "org/model"))
    assert capsys.readouterr().err == ""
    assert not means_artifact(store.root, "gpt2") and "write gpt2~0" in capsys.readouterr().err
    assert store.resolve("gpt2~0").key == "sft-1"
