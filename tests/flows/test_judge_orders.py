"""An order to measure a judge, checked before anything runs."""

import json

import pytest

from alignflow.data.errors import UserError
from alignflow.flows.judge_orders import JudgeOrder, check_judge_order, content, copy_report
from alignflow.tasks.store.artifact_store import ArtifactStore


@pytest.fixture
def gold(tmp_path):
    file = tmp_path / "gold.jsonl"
    file.write_text(json.dumps({"prompt": "Why?", "chosen": "good", "rejected": "bad"}) + "\n")
    return file


def test_the_order_is_one_step_of_a_recipe(tmp_path, gold):
    order = JudgeOrder(judge="rubric", data=("gold.jsonl",), options=(("constitution", "reader"),), max_rows=5)
    checked = check_judge_order(order, ArtifactStore(tmp_path / "store"), tmp_path)
    assert [node.name for node in checked.caller.nodes] == ["judge_eval"] and not checked.found()
    config = checked.caller.nodes[0].config
    assert config.judge.options == {"constitution": "reader"} and config.max_rows == 5
    assert config.data[0].path == str(gold) and checked.recipe.name == "rubric-on-gold"


def test_settings_reach_every_other_value(tmp_path, gold):
    order = JudgeOrder(judge="rubric", data=("gold.jsonl",), settings=(("judge_eval.fit_fraction", 0.25),))
    checked = check_judge_order(order, ArtifactStore(tmp_path / "store"), tmp_path)
    assert checked.caller.nodes[0].config.fit_fraction == 0.25


def test_a_file_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        check_judge_order(
            JudgeOrder(judge="rubric", data=("./gone.jsonl",)), ArtifactStore(tmp_path / "store"), tmp_path
        )


def test_recorded_replies_name_no_judge():
    section = content(JudgeOrder(recorded="replies.jsonl"))["judge_eval"]
    assert section["recorded"] == "replies.jsonl" and "judge" not in section


def test_an_engine_is_that_of_the_judge():
    section = content(JudgeOrder(judge="llm", data=("gold.jsonl",), generator="transformers"))["judge_eval"]
    assert section["judge"]["generator"] == "transformers"


def test_the_report_is_copied_with_its_page_and_cost(tmp_path):
    for name in (
        "payload/judge_report.json",
        "payload/verdicts.parquet",
        "side/judge_report.html",
        "side/judge_cost.json",
    ):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text("x")
    (line,) = copy_report(tmp_path / "made", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "judge_report.json",
        "verdicts.parquet",
        "judge_report.html",
        "judge_cost.json",
    }
    assert line == f"report: {tmp_path / 'out' / 'judge_report.html'}"
