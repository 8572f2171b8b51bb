"""What the harness measured, as metrics: intervals from its standard errors, worked by hand."""

import pytest

from alignflow.models.evaluators.lm_eval import change, figures, flat, of_task

LINE = {
    "alias": "colours",
    "acc,none": 0.5,
    "acc_stderr,none": 0.1,
    "word_perplexity,none": 12,
    "word_perplexity_stderr,none": "N/A",
}


def test_an_interval_is_made_of_the_standard_error():
    found = figures(LINE, 0.95)
    assert found["acc"] == {
        "value": 0.5,
        "stderr": 0.1,
        "low": pytest.approx(0.304, abs=1e-3),
        "high": pytest.approx(0.696, abs=1e-3),
    }


def test_a_metric_without_an_error_has_no_interval_and_is_no_zero():
    assert figures(LINE, 0.95)["word_perplexity"] == {"value": 12.0, "stderr": None, "low": None, "high": None}


def test_a_filter_is_in_the_name():
    assert list(figures({"exact_match,strict-match": 1.0}, 0.95)) == ["exact_match.strict-match"]


def test_the_change_has_both_errors():
    after, before = (
        figures({"a,none": 0.5, "a_stderr,none": 0.3}, 0.95)["a"],
        figures({"a,none": 0.25, "a_stderr,none": 0.4}, 0.95)["a"],
    )
    assert change(after, before, 0.95)["value"] == 0.25 and change(after, before, 0.95)["stderr"] == pytest.approx(0.5)
    assert change(after, {**before, "stderr": None}, 0.95)["low"] is None


def test_the_metrics_of_a_task_are_those_of_both_models_and_the_change():
    found = {
        "aligned": {
            "results": {"t": LINE},
            "n-samples": {"t": {"effective": 7}},
            "higher_is_better": {"t": {"acc": True}},
        },
        "sft": {"results": {"t": {"acc,none": 0.25}}},
    }
    task = of_task("t", found, 0.95)
    assert task["n"] == 7 and task["higher_is_better"] == {"acc": True}
    assert flat(task) == {
        "acc/aligned": 0.5,
        "acc/aligned/low": pytest.approx(0.304, abs=1e-3),
        "acc/aligned/high": pytest.approx(0.696, abs=1e-3),
        "acc/sft": 0.25,
        "acc/change": 0.25,
    }
