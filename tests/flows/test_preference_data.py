"""Preference data on demand is a recipe that samples and labels, and trains nothing."""

import pytest
from flow_support import publish_all
from model_directory_support import write_model_directory
from run_support import record_run

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.flows.pipeline import Outcome
from alignflow.flows.preference_data import Order, check_order, model_in_store


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"prompt": "Why?"}\n')
    return "asked.jsonl"


@pytest.fixture
def made(store, repository):
    return publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store)


def test_a_job_has_no_training_and_the_model_of_the_store(store, tmp_path, prompts, made):
    checked = check_order(Order(prompts, made["sft"].key[:14], settings=(("sample.n", 3),)), store, tmp_path)
    assert [node.name for node in checked.caller.nodes] == ["init", "prepare", "sample", "label", "report"]
    assert checked.inputs.calls["init"].key == made["sft"].key and checked.recipe.sample.n == 3
    assert checked.recipe.name == "asked-by-rubric" and checked.recipe.data.prompts[0].path == str(tmp_path / prompts)


def test_the_model_is_named_by_its_step_or_its_run(store, tmp_path, prompts, made):
    record_run(store, made, "my-run")
    for name, step in (("sft", "sft"), ("my-run~0", "align"), ("last", "align")):
        assert check_order(Order(prompts, name), store, tmp_path).inputs.calls["init"].key == made[step].key


def test_the_bare_name_of_a_run_hides_no_model_of_the_hub(store, tmp_path, made, capsys):
    record_run(store, made, "phi-2")
    record_run(store, made, "broken", error=UserError("it broke"))
    assert model_in_store("phi-2", store, tmp_path) is model_in_store("broken", store, tmp_path) is None
    assert "phi-2 is read as a path or a Hub id" in capsys.readouterr().err


def test_a_directory_is_taken_in_and_one_of_the_store_is_found_there(store, tmp_path, prompts, made):
    write_model_directory(tmp_path / "model")
    assert check_order(Order(prompts, "model"), store, tmp_path).inputs.calls == {}
    own = check_order(Order(prompts, str(store.payload(made["sft"].ref()))), store, tmp_path)
    assert own.inputs.calls["init"].key == made["sft"].key


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"prompts": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"model": "sft-0000"}, "no artifact matches"),
        ({"model": "label-"}, "not a model that generates"),
        ({"judge": "rubrik"}, "did you mean 'rubric'?"),
        ({"judge_options": (("constitution", "helpfull"),)}, "no constitution 'helpfull'"),
        ({"judge": "reward_model"}, "a judge needs a reward model"),
        ({"settings": (("sample.n", 0),)}, "sample.n"),
        ({"out": "full"}, "something is there already"),
    ],
)
def test_a_wrong_order_is_refused_before_anything_runs(store, tmp_path, prompts, made, change, what):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    order = {"prompts": prompts, "model": made["sft"].key[:14], **change}
    with pytest.raises(UserError) as raised:
        check_order(Order(**order), store, tmp_path)
    assert what in str(raised.value)


def test_the_data_is_copied_whole(store, tmp_path, prompts, made):
    checked = check_order(Order(prompts, made["sft"].key[:14], out="copy"), store, tmp_path)
    (store.payload(made["label"].ref()) / "statistics.json").write_text("{}")
    outcomes = [Outcome(name=name, ref=made[name].ref(), ran=True, seconds=1) for name in ("label", "report")]
    data, report = checked.deliver(outcomes)
    assert str(tmp_path / "copy") in data and report.endswith("report.html")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "manifest.json",
        "statistics.json",
        "train.txt",
    ]


@pytest.mark.parametrize("table", ["unpaired", "rankings"])
def test_another_table_of_the_same_labelling_is_copied(store, tmp_path, prompts, made, table):
    job = check_order(Order(prompts, made["sft"].key[:14], out="copy", table=table), store, tmp_path)
    payload = store.payload(made["label"].ref())
    (payload / "statistics.json").write_text("{}")
    job.deliver([Outcome(name=name, ref=made[name].ref(), ran=True, seconds=1) for name in ("label", "report")])
    assert (tmp_path / "copy" / "train.txt").read_text() == (payload / table / "train.txt").read_text()
