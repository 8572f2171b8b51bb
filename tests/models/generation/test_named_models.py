"""What lies at a path is part of a row's id: neither another model, nor another content of one path, gets its rows."""

import os

import pytest

from alignflow.data.configs.generation import JudgeConfig, SampleConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.models.generation.chat_sample import chat_sampling
from alignflow.models.generation.named_models import content_outside, named_models


@pytest.fixture
def models(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    return tmp_path


def test_two_models_differ_and_a_copy_is_the_same(models):
    (models / "copy").mkdir()
    (models / "copy" / "config.json").write_text("one")
    one, other, copy = (content_outside(models / name) for name in ("one", "other", "copy"))
    assert one == copy != other and len(one) == 64


def test_a_path_whose_content_changes_is_another_model(models):
    before = content_outside(models / "one")
    (models / "one" / "config.json").write_text("new")
    os.utime(models / "one" / "config.json", ns=(1, 1))
    assert content_outside(models / "one") != before


def test_a_hub_model_is_known_by_its_name_and_a_file_or_nothing_is_no_model(models):
    assert content_outside("owner/name") == "owner/name"
    assert content_outside(None) == content_outside(models / "one" / "config.json") == ""


@pytest.mark.parametrize(
    "config",
    [
        lambda path: ReviseConfig(model=path),
        lambda path: JudgeConfig(name="llm", options={"model": path}),
        lambda path: JudgeConfig(name="jury", options={"judges": [{"name": "rubric"}, {"name": "llm", "options": {"model": path}}]}),
        lambda path: JudgeConfig(name="llm", generator={"name": "server", "options": {"serve": {"path": path}}}),
    ],
)  # fmt: skip
def test_models_are_found_wherever_a_config_names_them(models, config):
    one, other = (named_models(config(str(models / name))) for name in ("one", "other"))
    assert list(one.values()) == [content_outside(models / "one")] and one.keys() == other.keys() and one != other


def test_a_config_that_names_no_model_adds_nothing():
    assert named_models(JudgeConfig(name="llm")) == {} == named_models(ReviseConfig())


def test_completions_of_two_served_models_are_two_rows(models, run):
    ids = set()
    for name in ("one", "other"):
        served = {"name": "server", "options": {"serve": {"path": str(models / name)}}}
        rows = [{"id": "p0", "prompt": [{"role": "user", "content": "say"}]}]
        with chat_sampling(SampleConfig(n=1, generator=served), models / "policy", rows, run) as (tasks, _):
            ids.add(tasks[0].identity)
    assert len(ids) == 2
