"""The runs of a store as a person compares them."""

import shutil

import pytest
from flow_support import publish_all
from run_support import record_run

from alignflow.data.configs.loading import load_recipe
from alignflow.flows.requests import RunRequest
from alignflow.tasks.store.run_rows import run_names, run_rows


@pytest.fixture
def recipe_file(repository, tmp_path):
    file = tmp_path / "recipes" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        (repository / "recipes" / "tiny.yaml").read_text().replace("../examples", str(repository / "examples"))
    )
    return file


def asked(file, **settings):
    request = RunRequest(str(file), tuple((name.replace("__", "."), value) for name, value in settings.items()))
    return request.asked(request.recipe()).model_dump()


def test_settings_are_those_that_differ_from_the_file(store, recipe_file):
    record_run(store, {}, **asked(recipe_file, align__options__beta=0.3, seed=0))
    (row,) = run_rows(store)
    assert row.name == "tiny" and row.settings == {"align.options.beta": 0.3}, "the file has seed 0 already"


def test_a_run_of_an_earlier_form_of_the_file_differs_by_what_was_edited(store, recipe_file):
    record_run(store, {}, **asked(recipe_file))
    recipe_file.write_text(
        recipe_file.read_text().replace("sft: {learning_rate: 1.0e-3", "sft: {learning_rate: 5.0e-3")
    )
    assert run_rows(store)[0].settings == {"sft.learning_rate": 0.001}


def test_where_the_file_is_gone_what_was_given_is_shown(store, recipe_file):
    record_run(store, {}, **asked(recipe_file, seed=0))
    recipe_file.unlink()
    assert run_rows(store)[0].settings == {"seed": 0}


def test_figures_size_and_names_come_from_the_artifacts(store, repository):
    metrics = {"evaluate": {"win_rate/helpful": 0.6, "kl": 2.0}, "reward": {"eval_accuracy": 0.75}}
    made = publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store, metrics=metrics)
    record_run(store, made, "first")
    record_run(store, {"sft": made["sft"]}, "second")
    second, first = run_rows(store)
    assert (first.method, first.win_rate, first.kl, first.reward_accuracy) == ("dpo", 0.6, 2.0, 0.75)
    assert first.size > second.size > 0 and second.win_rate is None and second.method is None
    names = run_names(store)
    assert names[made["sft"].key] == "second" and names[made["align"].key] == "first"
    shutil.rmtree(store.root / "artifacts")
    second, first = run_rows(store)
    assert first.size is None and first.win_rate == 0.6, "what came out is known after the artifacts are gone"


def test_a_report_without_a_record_is_a_run_of_an_older_alignflow(store, repository):
    metrics = {"reward": {"eval_accuracy": 0.75}}
    made = publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store, metrics=metrics)
    (row,) = run_rows(store)
    assert (row.state, row.name, row.settings, row.seconds) == ("old", None, None, None)
    assert (row.method, row.reward_accuracy, row.date) == ("dpo", 0.75, made["report"].created)
