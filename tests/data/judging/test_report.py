"""The whole report: complete, plain JSON, the same for equal outcomes."""

import json

from hypothesis import given, settings

from alignflow.data.judging.report import judge_report, report_metrics
from tests.data.judging.outcomes_support import OUTCOMES, outcome, rows_of


@settings(max_examples=10, deadline=None)
@given(OUTCOMES)
def test_it_is_json_and_the_same_each_time_and_its_mirror_image_has_the_same_verdict(outcomes):
    text = json.dumps(judge_report(outcomes, "judge", family="gpt"), allow_nan=False)
    assert text == json.dumps(judge_report(outcomes, "judge", family="gpt"))
    mirrored = judge_report([one.swapped() for one in outcomes], "judge", family="gpt")
    assert mirrored["conclusion"]["level"] == json.loads(text)["conclusion"]["level"]
    assert mirrored["decided"] == json.loads(text)["decided"]


def test_metrics_are_numbers_or_none_and_never_a_number_for_what_was_not_measured():
    without = report_metrics(judge_report(rows_of([outcome(None, 0.9)] * 3), "judge"))
    assert without["accuracy"] is without["kappa"] is without["ece"] is without["twice_as_long"] is None
    assert "option_mass" not in without and without["flip_rate"] == 0.0
    with_gold = report_metrics(judge_report(rows_of([outcome(1.0, 0.9), outcome(0.0, 0.9)] * 30), "judge"))
    assert with_gold["accuracy"] == 0.5 and with_gold["accuracy/low"] < 0.5 < with_gold["accuracy/high"]


def test_of_no_pairs_nothing_is_zero():
    report = judge_report([], "judge")
    assert report["agreement"] is report["calibration"] is report["entropy"] is report["probability"] is None
    assert report["flips"]["rate"] is None and report["conclusion"]["level"] == "no_labels"
