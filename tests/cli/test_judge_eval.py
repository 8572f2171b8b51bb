"""`alignflow judge-eval` as a person and a program see it."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from alignflow.cli.app import app
from alignflow.data.errors import AlignflowError, UserError

RECORDED = Path(__file__).parents[1] / "data" / "judging" / "recorded_judge.jsonl"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGNFLOW_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("ALIGNFLOW_PREFECT", "off")
    with patch.dict(
        os.environ
    ):  # the command becomes a client of a server that ends with it, and tests after it must not
        yield


def judge_eval(*arguments):
    done = CliRunner().invoke(app, ["judge-eval", *map(str, arguments)])
    if isinstance(done.exception, AlignflowError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [(), ("--judge", "rubric"), ("--judge", "rubric", "--recorded", "x"), ("--recorded", "x", "--data", "y")],
)
def test_gold_for_a_judge_or_recorded_replies(arguments):
    with pytest.raises(UserError, match=r"pass --judge and --data, or only --recorded"):
        judge_eval(*arguments)


def test_an_unknown_judge_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"prompt": "Why?", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(AlignflowError, match="rubric"):
        judge_eval("--judge", "rubrik", "--data", tmp_path / "gold.jsonl")


@pytest.mark.system
def test_recorded_replies_as_json_and_as_files(tmp_path):
    report = json.loads(judge_eval("--recorded", RECORDED, "--json"))["reports"][0]
    assert report["judge"] == "small plain" and report["agreement"]["orders"]["given"]["hits"] == 3
    shown = judge_eval("--recorded", RECORDED, "--out", tmp_path / "out")
    assert "4 human preferences are too few" in " ".join(shown.split())
    assert {"judge_report.json", "judge_report.html", "verdicts.parquet"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
