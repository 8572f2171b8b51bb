"""What the harness measured, as metrics: intervals from its standard errors, worked by hand."""

from types import SimpleNamespace

import pytest

from alignflow.models.evaluators.lm_eval import change, figures, flat, of_name, of_task, warn_of_limits

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


GROUPED = {
    "results": {"all": {"alias": "all"}, "t": LINE, "u": LINE},
    "n-samples": {"t": {"effective": 7}, "u": {"effective": 5}},
    "group_subtasks": {"all": ["some", "t"], "some": ["t", "u"], "tag": ["u"], "none": []},
}


def test_a_group_has_as_many_questions_as_its_tasks_each_counted_once():
    assert of_task("all", {"aligned": GROUPED, "sft": GROUPED}, 0.95)["n"] == 12


@pytest.mark.parametrize(("name", "tasks"), [("all", {"t", "u"}), ("tag", {"u"}), ("t", {"t"}), ("none", set())])
def test_a_name_without_metrics_of_its_own_has_those_of_its_tasks(name, tasks):
    found = {task: of_task(task, {"aligned": GROUPED, "sft": GROUPED}, 0.95) for task in GROUPED["results"]}
    metrics = of_name(name, found, GROUPED["group_subtasks"])
    assert {metric.split("/")[1] for metric in metrics} == tasks


def test_a_group_with_metrics_of_its_own_has_those_alone():
    found = {task: of_task(task, {"aligned": GROUPED, "sft": GROUPED}, 0.95) for task in ("t", "u")}
    metrics = of_name("all", {**found, "all": found["t"]}, GROUPED["group_subtasks"])
    assert {metric.split("/")[1] for metric in metrics} == {"all"}


def test_what_the_context_was_too_short_for_is_told_once_and_counted(new_run):
    run = new_run()
    warn_of_limits(SimpleNamespace(cut=0, lowered=0), "sft", run)
    assert run.warnings == []
    warn_of_limits(SimpleNamespace(cut=2, lowered=3), "sft", run)
    assert [warning.split()[1] for warning in run.warnings] == ["2", "3"]
