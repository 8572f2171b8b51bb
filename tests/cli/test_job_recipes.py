"""The values in the recipe of a job."""

import pytest

from alignflow.cli.job_recipes import job_recipe
from alignflow.cli.jobs import JOBS


def content(task, model="", **data):
    return job_recipe(task, "name", model, {kind: [kind] for kind in data or {JOBS[task].main[0]: ""}}).content


@pytest.mark.parametrize("task", ["dpo", "kto", "reward"])
def test_a_built_model_learns_its_tokenizer_from_data_that_it_would_not_take_by_itself(task):
    kind = JOBS[task].main[0]
    assert content(task)["model"]["corpus"] == [{"path": kind}]
    assert "corpus" not in content(task, "m")["model"] and "build" not in content(task, "m")["model"]


def test_prompts_and_demonstrations_are_its_corpus_without_being_named():
    assert "corpus" not in content("rlaif")["model"] and "corpus" not in content("sft")["model"]


def test_stages_that_a_job_does_not_need_are_not_in_it():
    assert set(content("sft")) == {"name", "model", "data", "sft", "align"}
    assert set(content("dpo")) == {"name", "model", "data", "align", "evaluate"}
    assert set(content("reward")) == {"name", "model", "data", "reward", "align"}
    assert "sample" not in content("rlaif", completions="") and "label" not in content("ppo", preferences="")


def test_the_judge_that_made_the_labels_does_not_check_them():
    recipe = content("rlaif")
    assert recipe["label"]["judge"] not in recipe["evaluate"]["judges"]


@pytest.mark.parametrize(("kind", "loss"), [("preferences", None), ("rankings", "ranking"), ("unpaired", "binary")])
def test_a_reward_model_has_the_loss_of_its_data(kind, loss):
    assert content("reward", **{kind: ""})["reward"].get("loss") == loss
