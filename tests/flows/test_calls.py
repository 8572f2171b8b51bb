"""A plan says what a run would do, and why; without doing it."""

import shutil
import subprocess
import sys

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.flows.calls import Caller, plan
from alignflow.flows.pipeline import Narrator, Selection, walk


@pytest.fixture
def load(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


def states(recipe, store):
    return {step.name: (step.state, step.why) for step in plan(recipe, store)}


def test_on_an_empty_store_the_first_stage_runs_and_the_others_come_after(load, store):
    found = states(load(), store)
    assert (
        found["init"] == ("run", "first time")
        and found["prepare"] == ("after", "init")
        and found["report"][0] == "after"
    )


def test_a_made_stage_is_cached_and_a_changed_one_names_what_differs(load, store, made):
    shutil.rmtree(store.directory(made["prepare"].key))
    assert states(load(), store)["init"][0] == "cached" and states(load(), store)["prepare"] == ("run", "first time")
    changed = states(load("model.build.hidden_size=64"), store)
    assert changed["init"] == ("run", "config.model.build.hidden_size 32 -> 64")


def test_shards_change_neither_keys_nor_the_plan(load, store, made):
    shared = (
        "sample.shards=3",
        "label.shards=2",
        "evaluate.shards=2",
        "engine.task_runner=dask",
        "engine.dask_address=tcp://host:8786",
    )
    prepare = Caller(load(), store).nodes[1]
    call, other = (Caller(load(*settings), store).call(prepare, {"init": made["init"]}) for settings in ((), shared))
    assert call.key == other.key and plan(load(), store) == plan(load(*shared), store)


def test_a_raised_version_is_what_differs(load, store, made, monkeypatch):
    row = catalogue.STAGES["init"]
    monkeypatch.setitem(catalogue.STAGES, "init", type(row)(**{**row.__dict__, "version": "99"}))
    assert states(load(), store)["init"] == ("run", f"version.stage {row.version} -> 99")


def test_a_missing_file_blocks_its_stage_and_what_follows(load, store):
    found = states(load("data.prompts.0.path=./nowhere.jsonl"), store)
    assert (
        found["init"][0] == "blocked" and "nowhere" in found["init"][1] and found["prepare"] == ("blocked", "by init")
    )


def test_a_part_that_the_data_does_not_have_is_named(load, store, made):
    caller = Caller(load(), store)
    with pytest.raises(UserError, match="the data has no unpaired"):
        caller._part(made["prepare"], "unpaired")


def test_planning_imports_neither_torch_nor_prefect(repository, tmp_path):
    code = (
        "import sys\nfrom alignflow.cli import app\nsys.argv = ['alignflow', 'plan', 'recipes/tiny.yaml']\n"
        "try:\n    app.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'prefect', 'deepspeed', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "init" in done.stdout and "after init" in done.stdout


@pytest.mark.parametrize(
    ("setting", "stage", "shown"),
    [
        ("data.evaluation.0.path=./nowhere.jsonl", "prepare", "no such file"),
        ("label.judge.options.constitution=helpfull", "label", "no constitution 'helpfull'"),
        ("label.judge={name: reward_model, options: {model: ./nowhere}}", "label", "no such file"),
    ],
)
def test_a_name_that_is_wrong_in_a_late_stage_is_known_before_the_first_one_runs(load, store, setting, stage, shown):
    recipe = load(setting, "evaluate.judges=[]")
    state, why = states(recipe, store)[stage]
    assert state == "blocked" and shown in why
    with pytest.raises(UserError, match=shown):
        walk(recipe, Selection(), store, Narrator())
    assert not list((store.root / "artifacts").iterdir())
