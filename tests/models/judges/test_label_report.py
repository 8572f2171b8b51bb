"""How a stage leaves a judge report."""

import json

import pytest

from alignflow.data.judging.calibration import Calibration
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.report import judge_report
from alignflow.data.run import Run, Runtime
from alignflow.models.judges.label_report import fit_of, read_calibration, warn_of, write_report


@pytest.fixture
def run(tmp_path):
    for name in ("out", "side", "work", "rows"):
        (tmp_path / name).mkdir()
    return Run(tmp_path / "out", tmp_path / "side", tmp_path / "work", tmp_path / "rows", Runtime())


def report_of(*orders):
    outcomes = [Outcome(str(place), sum(pair) / 2, pair) for place, pair in enumerate(orders)]
    return judge_report(outcomes, "judge")


def test_figures_are_payload_and_times_are_beside_it(run):
    report = report_of((0.9, 0.8))
    write_report([report], run, cost={"seconds": 3.5})
    assert json.loads((run.out / "judge_report.json").read_text())["reports"] == [report]
    assert {file.name for file in run.out.iterdir()} == {"judge_report.json"}
    assert json.loads((run.side / "judge_cost.json").read_text()) == {"seconds": 3.5, "tokens": None}
    assert report["conclusion"]["text"] in (run.side / "judge_report.html").read_text()


def test_a_poor_judge_is_warned_of_and_another_one_not(run):
    warn_of(report_of((0.9, 0.8)), run)
    assert run.warnings == []
    warn_of(report_of(*[(0.9, 0.1)] * 20), run)
    assert len(run.warnings) == 1 and "near chance" in run.warnings[0]


def test_a_fit_is_taken_where_it_helped_alone(tmp_path):
    assert read_calibration(None) is None and fit_of(None) is None
    for used, expected in ((True, Calibration(0.5, 1.0)), (False, None)):
        (tmp_path / "calibration.json").write_text(json.dumps({"used": used, "slope": 0.5, "bias": 1.0}))
        assert fit_of(read_calibration(tmp_path)) == expected
