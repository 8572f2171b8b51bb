"""The stage that measures a judge: an oracle, a judge of one seat, scores, recorded replies."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.judging import JudgeEvalConfig
from alignflow.data.errors import DataError
from alignflow.data.judging.calibration import fits
from alignflow.data.records import row_id, user
from alignflow.data.run import Run, Runtime
from alignflow.models.judges import judge_eval as module
from alignflow.models.judges.base import PointwiseJudge, Verdict, sigmoid
from alignflow.models.judges.injections import INJECTIONS

RECORDED = Path(__file__).parents[2] / "data" / "judging" / "recorded_judge.jsonl"


class Seated:
    """Prefers the answer with more letters x, said with a bias to the first seat; counts what it is asked."""

    pointwise = False
    fingerprint = ""

    def __init__(self, bias=0.0, worth=1.0):
        self.bias, self.worth, self.asked = bias, worth, 0

    def compare(self, pairs):
        self.asked += len(pairs)
        found = []
        for first, second in pairs:
            gap = self.worth * (first.text.count("x") - second.text.count("x"))
            given, swapped = sigmoid(gap + self.bias), sigmoid(gap - self.bias)
            found.append(Verdict((given + swapped) / 2, orders=(given, swapped), masses=(0.9, 0.8)))
        return found

    def close(self):
        pass


class Counts(PointwiseJudge):
    def score(self, candidates):
        return [float(candidate.text.count("x")) for candidate in candidates]

    def probability(self, first, second):
        return sigmoid(first - second)


@pytest.fixture
def make_run(tmp_path):
    numbers = itertools.count()

    def make():
        root = tmp_path / f"run{next(numbers)}"
        for name in ("out", "side", "work"):
            (root / name).mkdir(parents=True)
        return Run(out=root / "out", side=root / "side", work=root / "work", rows=tmp_path / "rows", runtime=Runtime())

    return make


def measured(judge, rows, tmp_path, run, monkeypatch, **config):
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(module, "make_judge", lambda *arguments, **named: judge)
    found = JudgeEvalConfig(judge={"name": "rubric"}, data=(SourceConfig(path=str(file)),), **config)
    metrics = module.judge_eval(found, run=run)
    return metrics, json.loads((run.out / "judge_report.json").read_text())["reports"][0]


def gold(count=120):
    answers = ("x" * 5, "y")
    return [
        {
            "prompt": f"Why {n}?",
            "response_a": answers[n % 2],
            "response_b": answers[1 - n % 2],
            "human_preference": "ab"[n % 2],
        }
        for n in range(count)
    ]


def test_an_oracle_reproduces_the_human_labels_in_both_orders(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, report = measured(Seated(), gold(), tmp_path, run, monkeypatch)
    assert metrics["accuracy"] == metrics["kappa"] == 1.0 and metrics["flip_rate"] == 0.0
    assert report["agreement"]["orders"]["both_orders"]["rate"] == 1.0 and report["conclusion"]["level"] == "usable"
    assert metrics["option_mass"] == pytest.approx(0.85) and run.warnings == []


def test_a_judge_of_one_seat_is_near_chance_and_warned_of(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, report = measured(Seated(bias=9.0, worth=0.0), gold(), tmp_path, run, monkeypatch)
    assert metrics["first_position_rate"] == 1.0 and metrics["accuracy"] == 0.5 and metrics["ties"] == 1.0
    assert report["conclusion"]["level"] == "near_chance" and report["conclusion"]["text"] in run.warnings
    assert metrics["calibration/used"] == 0.0


def test_what_was_asked_is_not_asked_again_and_the_bytes_are_the_same(tmp_path, make_run, monkeypatch):
    judge, runs = Seated(), [make_run(), make_run()]
    for run in runs:
        measured(judge, gold(), tmp_path, run, monkeypatch, batch_size=7, injections=0)
    first, second = ({path.name: path.read_bytes() for path in run.out.rglob("*") if path.is_file()} for run in runs)
    assert judge.asked == 120 and first == second
    assert set(first) == {"judge_report.json", "verdicts.parquet", "calibration.json"}
    assert (runs[0].side / "judge_report.html").is_file()


def test_attempts_to_talk_to_the_judge_are_committed_in_batches_and_pairs_of_before_are_not_asked_again(
    tmp_path, make_run, monkeypatch
):
    judge, runs = Seated(), [make_run(), make_run()]
    for run in runs:
        measured(judge, gold(), tmp_path, run, monkeypatch, batch_size=7, injections=5)
    assert judge.asked == 120 + 5 * len(INJECTIONS)  # neither their 5 pairs as they are, nor anything of the second run
    first, second = (json.loads((run.out / "judge_report.json").read_text())["reports"][0] for run in runs)
    assert first["injections"] == second["injections"] and first["injections"]["pairs"] == 5


def test_what_the_judge_wrote_stands_in_the_table_of_verdicts(tmp_path, make_run, monkeypatch):
    class Writes(Seated):
        def compare(self, pairs):
            more = {"rationales": ("A is better", "B is better"), "principle": "honest", "parts": {"honest": 0.9}}
            return [replace(verdict, **more) for verdict in super().compare(pairs)]

    run = make_run()
    measured(Writes(), gold(2), tmp_path, run, monkeypatch)
    row = pq.read_table(run.out / "verdicts.parquet").to_pylist()[0]
    assert (row["rationale_given"], row["rationale_swapped"]) == ("A is better", "B is better")
    assert (row["judge"], row["principle"], row["parts"]) == ("rubric", "honest", '{"honest": 0.9}')


def test_a_biased_judge_is_calibrated_and_the_raw_orders_are_kept(tmp_path, make_run, monkeypatch):
    run = make_run()
    metrics, report = measured(Seated(bias=8.0), gold(300), tmp_path, run, monkeypatch)
    assert metrics["flip_rate"] == 1.0 and metrics["calibration/used"] == 1.0
    fitted = json.loads((run.out / "calibration" / "calibration.json").read_text())
    assert fitted == report["fitted"] and fitted["after"]["decided_right"] == fitted["measured_on"]
    assert fitted["fitted_on"] == sum(fits(row_id("prompt", user(f"Why {n}?")), 0.5) for n in range(300))
    row = pq.read_table(run.out / "verdicts.parquet").to_pylist()[0]
    assert row["raw_given"] > 0.5 > row["raw_swapped"] and (row["given"] - 0.5) * (row["swapped"] - 0.5) > 0


def test_nothing_is_said_of_the_seats_of_a_jury(tmp_path, make_run, monkeypatch):
    judge = Seated()
    judge.seats = False
    metrics, report = measured(judge, gold(), tmp_path, make_run(), monkeypatch)
    assert metrics["flip_rate"] is None and report["first_position"]["trials"] == 120 == report["decided"]


def test_scores_of_people_are_compared_with_scores_of_the_judge(tmp_path, make_run, monkeypatch):
    rows = [
        {"prompt": f"Why {n}?", "completions": ["x" * k for k in (1, 3, 2)], "scores": [1, 3, 2]} for n in range(20)
    ]
    metrics, report = measured(Counts(), rows, tmp_path, make_run(), monkeypatch)
    assert (
        metrics["spearman"] == pytest.approx(1.0)
        and metrics["kendall"] == pytest.approx(1.0)
        and metrics["accuracy"] == 1.0
    )
    assert report["scores"]["answers"] == 60 and report["flips"]["trials"] == 0 and report["pointwise"]


def test_gold_rows_that_are_not_understood_are_counted_and_said(tmp_path, make_run, monkeypatch):
    run = make_run()
    _, report = measured(Seated(), [*gold(), {**gold(1)[0], "human_preference": "?"}], tmp_path, run, monkeypatch)
    assert report["data"]["dropped"] == {"gold label not understood": 1} and "1 of 121 gold rows" in run.warnings[0]


def test_without_any_gold_it_stops(tmp_path, make_run, monkeypatch):
    with pytest.raises(DataError, match="none of 1 rows has a gold label"):
        measured(Seated(), [{"prompt": "Why?"}], tmp_path, make_run(), monkeypatch)


def test_self_preference_by_the_family_of_the_judge(tmp_path, make_run, monkeypatch):
    rows = [
        {**row, "model_a": "smollm" if n % 2 else "gpt", "model_b": "gpt" if n % 2 else "smollm"}
        for n, row in enumerate(gold())
    ]
    _, report = measured(Seated(worth=-1.0), rows, tmp_path, make_run(), monkeypatch, family_of_judge="SmolLM")
    assert report["self_preference"]["judge"]["rate"] == 1.0 and report["self_preference"]["people"]["rate"] == 0.0


def test_recorded_replies_ask_no_judge(make_run):
    run = make_run()
    metrics = module.judge_eval(JudgeEvalConfig(recorded=str(RECORDED)), run=run)
    (report,) = json.loads((run.out / "judge_report.json").read_text())["reports"]
    rows = pq.read_table(run.out / "verdicts.parquet").to_pylist()
    assert {row["judge"] for row in rows} == {"small plain"} and len(rows) == 4
    assert report["judge"] == "small plain" and metrics["pairs"] == 4.0 and metrics["abstentions"] == 0.25
