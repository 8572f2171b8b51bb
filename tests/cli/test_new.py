"""A recipe that alignflow writes for a job from the data: short, refused in one message where data is missing, and one that runs."""

import json
import re

import pytest
import yaml
from model_directory_support import write_model_directory
from tests_support import as_artifact

from alignflow.cli.new import new
from alignflow.cli.plan import plan
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import AlignflowError, UserError
from alignflow.flows.graph import nodes

ROWS = {
    "chats": {"prompt": "Say {n}.", "completion": "Here is {n}."},
    "pairs": {"prompt": "Say {n}.", "chosen": "Here is {n}.", "rejected": "No, not {n}."},
    "labelled": {"prompt": "Say {n}.", "completion": "Here is {n}.", "label": True},
    "prompts": {"prompt": "Say {n}."},
    "scored": {"prompt": "Say {n}.", "completions": ["a {n}", "b {n}"], "scores": [1.0, 2.0]},
}
JOBS = [
    ("sft", "chats", "init prepare sft report"),
    ("dpo", "pairs", "init prepare reference align evaluate report"),
    ("dpo", "pairs chats", "init prepare sft reference align evaluate report"),
    ("kto", "labelled", "init prepare reference align evaluate report"),
    ("kto", "pairs", "init prepare reference align evaluate report"),
    ("rlaif", "prompts", "init prepare sample label reference align evaluate report"),
    ("rlaif", "prompts chats", "init prepare sft sample label reference align evaluate report"),
    ("ppo", "chats", "init prepare sft sample label reward align evaluate report"),
    ("ppo", "pairs", "init prepare reward align evaluate report"),
    ("reward", "pairs", "init prepare reward report"),
    ("reward", "labelled", "init prepare reward report"),
    ("reward", "scored", "init prepare reward report"),
]


@pytest.fixture
def write(tmp_path, monkeypatch, capsys):
    """Call the command on files with rows of ROWS in an empty folder; returns what it printed and the path of the recipe."""
    monkeypatch.chdir(tmp_path)

    def run(task, names, model="", full=False):
        for name in set(names.split()) & ROWS.keys():
            rows = [{key: _filled(value, number) for key, value in ROWS[name].items()} for number in range(12)]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = [f"{name}.jsonl" if name in ROWS else name for name in names.split()]
        new(task=task, model=model, data=data, output=tmp_path / "recipe.yaml", full=full)
        return capsys.readouterr().out, tmp_path / "recipe.yaml"

    return run


def _filled(value, number):
    if isinstance(value, list):
        return [_filled(item, number) for item in value]
    return value.replace("{n}", f"number {number}") if isinstance(value, str) else value


@pytest.mark.parametrize(("task", "names", "steps"), JOBS)
def test_a_recipe_of_every_job_is_short_has_the_steps_of_the_job_and_passes_plan(write, task, names, steps):
    _, path = write(task, names)
    assert [node.name for node in nodes(load_recipe(path))] == steps.split()
    assert len(path.read_text().splitlines()) <= 27
    plan(path)  # raises Exit where a step is blocked or too large


PICKED = [
    ("pairs", "dpo", "pairs"),
    ("pairs prompts chats", "dpo", "pairs"),
    ("labelled", "kto", "answers labelled good or bad"),
    ("prompts", "rlaif", "prompts without answers"),
    ("chats prompts", "rlaif", "prompts without answers"),
    ("chats", "sft", "demonstrations"),
    ("owner/chats", "sft", "the data is a Hub id, which is not read"),
]


@pytest.mark.parametrize(("names", "task", "why"), PICKED)
def test_without_a_task_the_data_says_which_and_the_command_why(write, names, task, why):
    out, _ = write("", names)
    assert f"task {task}: " in out and "picked because" in out and why in out


def test_what_was_found_in_each_file_is_told(write):
    out, _ = write("sft", "chats prompts")
    assert "chats.jsonl: trl, 12 rows as demonstrations; columns prompt, completion\n" in out
    assert "prompts.jsonl: prompts without answers; not used, because sft reads demonstrations here\n" in out
    assert "no --model: the recipe builds a small model" in out


def test_several_files_of_one_kind_stand_in_one_list_relative_to_the_recipe(write, tmp_path):
    _, path = write("sft", "chats labelled")
    sources = yaml.safe_load(path.read_text())["data"]["demonstrations"]
    assert sources == [{"path": "./chats.jsonl"}, {"path": "./labelled.jsonl"}]


def test_a_model_that_is_given_has_the_learning_rates_of_a_real_one(write):
    _, path = write("dpo", "chats pairs", model="owner/model")
    recipe = load_recipe(path)
    assert recipe.model.path == "owner/model" and recipe.model.corpus == ()
    assert (recipe.sft.learning_rate, recipe.align.learning_rate) == (2e-5, 1e-6)


REFUSED = [
    ("dpo", "chats", "", "dpo needs pairs .*chats.jsonl holds demonstrations\n.*--task sft, .* or --task rlaif"),
    ("sft", "prompts", "", "sft needs demonstrations .*use --task rlaif"),
    ("kto", "prompts", "", "kto needs answers with a good or bad label"),
    ("reward", "chats", "", "reward needs pairs"),
    ("dop", "pairs", "", "unknown task 'dop'\n.*did you mean 'dpo'"),
    ("sft", "", "", "there is no data\n.*pass --data FILE"),
    ("", "", "", "a recipe needs data"),
    ("sft", "nowhere.jsonl", "", "no such file or directory: nowhere.jsonl"),
    ("sft", "./nowhere", "", "no such file or directory: ./nowhere"),
    ("sft", "no/such/folder", "", "no such file or directory"),
    ("sft", "no*.jsonl", "", "no file fits the pattern"),
    ("sft", "chats", "./nowhere", "--model: no such file or directory: ./nowhere"),
    ("sft", "chats", ".", "no config.json"),
]


@pytest.mark.parametrize(("task", "names", "model", "said"), REFUSED)
def test_what_cannot_be_done_is_refused_in_one_message_and_nothing_is_written(
    write, tmp_path, task, names, model, said
):
    with pytest.raises(AlignflowError, match=re.compile(said, re.DOTALL)) as refused:
        write(task, names, model=model)
    assert refused.value.exit_status == 2 and not (tmp_path / "recipe.yaml").exists()


def test_a_recipe_that_is_there_is_not_written_over(write):
    write("sft", "chats")
    with pytest.raises(UserError, match="exists already"):
        write("sft", "chats")


@pytest.mark.parametrize(("task", "names", "steps"), JOBS)
def test_the_full_recipe_asks_for_the_same_run(write, tmp_path, task, names, steps):
    _, short = write(task, names)
    wanted = nodes(load_recipe(short))
    short.unlink()
    _, path = write(task, names, full=True)
    assert nodes(load_recipe(path)) == wanted
    assert "# max_grad_norm: 1.0  # Gradient clipping by global norm; 0: off. (>= 0, <= 1000000)" in path.read_text()


def test_a_step_means_the_newest_model_of_the_store_as_in_other_commands(write, store, tmp_path):
    payload = as_artifact(write_model_directory(tmp_path / "model"), store.root, "sft-1")
    _, path = write("dpo", "pairs", model="sft")
    named = yaml.safe_load(path.read_text())["model"]["path"]
    assert (path.parent / named).resolve() == payload.resolve()


def test_a_step_that_the_store_does_not_have_is_refused_and_nothing_is_written(write, store, tmp_path):
    with pytest.raises(UserError, match="sft"):
        write("dpo", "pairs", model="sft")
    assert not (tmp_path / "recipe.yaml").exists()
