"""Several runs side by side: metrics with intervals and numbers, settings that differ, curves, and what one run lacks."""

import pytest
from compared_support import finished_step

from alignflow.data.report.comparison import ComparedRun, beside

CURVES = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6, "kl": 1.0}, {"step": 2, "eval_loss": 0.65}]


@pytest.fixture
def step(store):
    return lambda name, key, **more: finished_step(store.root, name, key, **more)


def runs(*steps_of_each):
    return [
        ComparedRun(name, f"{name}-end", {step.name: step for step in steps})
        for name, steps in zip("abc", steps_of_each, strict=False)
    ]


def test_a_win_rate_has_its_interval_and_the_number_of_its_prompts(step):
    metrics = {"win_rate/reader": 0.6, "win_rate/reader/low": 0.4, "win_rate/reader/high": 0.8}
    judged = {"win_rate": {"reader": {"wins": 5, "ties": 2, "losses": 3, "no_label": 9}}}
    first = step("evaluate", "evaluate-1", metrics=metrics, payload={"evaluation.json": judged})
    (row,) = beside(runs([first], [])).metrics
    assert (row.step, row.metric) == ("evaluate", "win_rate/reader")
    assert row.runs[0].model_dump() == {"value": 0.6, "low": 0.4, "high": 0.8, "n": 10} and row.runs[1] is None


def test_the_accuracy_of_a_reward_model_has_the_number_of_its_pairs(step):
    metrics = {"eval_accuracy": 0.75, "eval_pairs": 8.0}
    (row,) = beside(runs([step("reward", "reward-1", metrics=metrics)])).metrics
    assert row.runs[0].n == 8 and row.runs[0].low is None


def test_a_metric_that_no_run_measured_is_left_out_and_one_that_one_run_measured_is_not(step):
    first = step("label", "label-1", metrics={"pairs/train": None, "ties": None})
    second = step("label", "label-2", metrics={"pairs/train": 0.0, "ties": None})
    (row,) = beside(runs([first], [second])).metrics
    assert row.metric == "pairs/train" and [value.value for value in row.runs] == [None, 0.0]


def test_settings_that_differ_are_shown_as_they_were_written_and_equal_ones_are_not(step):
    data = {"components": {"config.path": "a" * 64, "config.beta": 0.1, "input.base": "x", "config.seed": 3}}
    first = step("align", "align-1", **data, config={"path": "data/pairs.jsonl", "beta": 0.1, "seed": 3, "epochs": 1})
    changed = {"config.path": "b" * 64, "config.seed": 3, "input.base": "y", "config.epochs": 2}
    second = step(
        "align", "align-2", components=changed, config={"path": "data/pairs.jsonl", "seed": 3, "epochs": 2, "beta": 0.5}
    )
    found = {row.setting: row.runs for row in beside(runs([first], [second])).settings}
    assert found == {
        "beta": ("0.1", "0.5"),
        "epochs": ("1", "2"),
        "path": ("pairs.jsonl aaaaaaaa", "pairs.jsonl bbbbbbbb"),
    }


def test_libraries_that_differ_are_told_to_be_in_no_key(step):
    first, second = (step("sft", f"sft-{n}", libraries={"torch": f"2.{n}", "numpy": "2"}) for n in (1, 2))
    (row,) = beside(runs([first], [second])).settings
    assert (row.step, row.setting, row.runs) == ("", "torch (not in the key)", ("2.1", "2.2"))


def test_a_curve_has_a_line_for_each_artifact_with_the_held_out_rows_beside_it(step):
    shared, other = step("align", "align-1", curves=CURVES), step("align", "align-2", curves=CURVES[:1])
    loss, kl = beside(runs([shared], [shared], [other])).curves
    assert [line.runs for line in loss.lines] == [("a", "b"), ("c",)] and loss.metric == "loss" and loss.headline
    assert loss.lines[0].training == ((1, 0.7), (2, 0.6)) and loss.lines[0].held_out == ((2, 0.65),)
    assert [line.runs for line in kl.lines] == [("a", "b")]


def test_what_one_run_lacks_is_told(step):
    full, short = step("align", "align-1", curves=CURVES), step("align", "align-2", curves=CURVES[:1])
    trained = step("reward", "reward-1", curves=CURVES)
    silent = step("reward", "reward-2")
    found = beside(runs([full, trained], [short, silent], [full]))
    assert found.notes == ("c has no step reward", "b has no curve kl of align", "b has no curves of reward")


def test_an_artifact_that_is_gone_is_no_step_that_the_run_never_had(step):
    whole, emptied = runs([step("sft", "sft-1", metrics={"loss": 1.0})], [])
    emptied = ComparedRun(emptied.name, emptied.key, {}, gone=("sft",))
    assert beside([whole, emptied]).notes == ("b: the store no longer has what it made for sft",)


def test_curves_that_changed_on_disk_are_told_and_not_drawn(step):
    good, bad = step("align", "align-1", curves=CURVES), step("align", "align-2", curves=CURVES)
    (bad.side / "curves.jsonl").write_text('{"step": 1, "loss": 9}\n')
    found = beside(runs([good], [bad]))
    assert found.notes == ("b: the file of the curves of align changed on disk, and is not drawn",)
    assert all(line.runs == ("a",) for curve in found.curves for line in curve.lines)
