"""What is asked of a deployed flow is checked before anything runs, in the words of the command line."""

import threading
import time

import pytest

from alignflow.data.artifacts import file_digest
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import AlignflowError, UserError
from alignflow.flows.forms import pipeline_form, stage_form
from alignflow.flows.requests import one_run_of, recipe_path, recipe_tag, refuse_another_recipe, request, served_store

TINY = "recipes/tiny.yaml"


def said(work):
    with pytest.raises(AlignflowError) as raised:
        work()
    return str(raised.value)


@pytest.mark.parametrize(
    ("form", "fields", "setting"),
    [
        ("align", {"method": "ppo", "options": {"klcoef": 1}}, ["align.method=ppo", "align.options={klcoef: 1}"]),
        ("align", {"options": {"x": 1}}, ["align.options={x: 1}"]),
        ("align", {"method": "ppo", "sft_coefficient": 0.2}, ["align.method=ppo", "align.sft_coefficient=0.2"]),
        ("label", {"judge_options": {"temprature": 1}}, ["label.judge.options={temprature: 1}"]),
        ("init", {"build_num_attention_heads": 7}, ["model.build.num_attention_heads=7"]),
        ("sft", {"load_best_model_at_end": "yes"}, ["sft.load_best_model_at_end=true"]),
    ],
)
def test_a_refusal_has_the_message_of_the_command_line(repository, form, fields, setting):
    path = repository / TINY
    asked = request(str(path), stage_form(form)(**fields), [])
    assert said(asked.recipe) == said(lambda: load_recipe(path, setting))


def test_settings_by_name_come_over_those_of_the_form(repository):
    asked = request(
        str(repository / TINY),
        pipeline_form()(align_learning_rate=0.2, seed=3),
        ["align.learning_rate=0.5", "data.max_length=128"],
    )
    recipe = asked.recipe()
    assert (recipe.align.learning_rate, recipe.seed, recipe.data.max_length) == (0.5, 3, 128)
    assert "not of the form name=value" in said(lambda: request("x.yaml", pipeline_form()(), ["nonsense"]))


def test_in_small_is_in_small(repository):
    assert request(str(repository / TINY), pipeline_form()(), [], smoke=True).recipe().name == "tiny-smoke"


def test_a_relative_path_starts_at_the_directory_of_the_store(store, store_root, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mine = store_root.parent / "recipes" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("name: mine\n")
    assert recipe_path("recipes/mine.yaml") == recipe_path(str(mine)) == mine
    mine.rename(mine.with_name("other.yaml"))
    text = said(lambda: recipe_path("recipes/mine.yaml"))
    assert str(mine) in text and str(tmp_path / "elsewhere" / "recipes" / "mine.yaml") in text, (
        "each place that was looked in"
    )


def test_a_worker_that_does_not_say_where_the_store_is_is_refused(monkeypatch):
    monkeypatch.delenv("ALIGNFLOW_HOME")
    with pytest.raises(UserError, match="does not know where the store is"):
        served_store()


def test_a_second_run_of_a_recipe_waits_and_says_so(repository, store):
    recipe, words, order = load_recipe(repository / TINY), [], []

    def second():
        with one_run_of(recipe, store, words.append):
            order.append("second")

    with one_run_of(recipe, store, words.append):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        order.append("first")
    other.join(5)
    assert order == ["first", "second"] and words == ["another run of tiny is active: this one waits for it to end"]


def test_a_run_refuses_a_recipe_that_differs_from_the_one_that_was_submitted(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\n")
    tags = ["other", recipe_tag(file_digest(recipe))]
    refuse_another_recipe(recipe, tags)
    recipe.write_text("name: mine\nseed: 1\n")
    text = said(lambda: refuse_another_recipe(recipe, tags))
    assert "not the one that was submitted" in text and str(recipe) in text and "submit again" in text
    refuse_another_recipe(recipe, ["other"])  # a run from a form names no file's content
