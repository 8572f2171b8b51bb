"""The top of the report: what came out, in a sentence, and what the run was made with."""

from types import SimpleNamespace

import pytest

from alignflow.data.report.headline import NO_DIFFERENCE, headline, model_path, ran_with, warnings_of


def step(stage="align", config=None, metrics=None, warnings=(), **more):
    manifest = SimpleNamespace(stage=stage, config=config or {}, metrics=metrics or {}, warnings=list(warnings))
    return SimpleNamespace(name=stage, manifest=manifest, metrics=metrics or {}, path=stage, **more)


def judge(rate, low, high, made=False):
    counts = {"wins": 180, "ties": 40, "losses": 80, "no_label": 0}
    return {"win_rate": rate, "low": low, "high": high, "made_the_labels": made, **counts}


DPO = step(config={"method": "dpo"})


def said(judges, kl=None):
    return headline({"align": DPO, "evaluate": step("evaluate", metrics={"kl": kl})}, {"win_rate": judges})


def test_each_judge_is_told_with_its_interval_and_whether_it_made_the_labels():
    judges = {"llm": judge(0.67, 0.62, 0.73, made=True), "rubric:reader": judge(0.56, 0.51, 0.62)}
    assert said(judges, 2.3) == [
        "Against SFT the dpo model wins 67% [62%, 73%] of 300 prompts by llm, which made the labels, and "
        "56% [51%, 62%] of 300 prompts by rubric:reader, which did not make the labels; KL 2.3 nats per answer. Ties count one half."
    ]


def test_prompts_without_a_label_are_counted_beside_the_others():
    judges = {"llm": judge(0.67, 0.62, 0.73) | {"no_label": 12}}
    assert "67% [62%, 73%] of 300 prompts (12 more have no label) by llm" in said(judges)[0]


def test_a_difference_that_no_interval_shows_is_said_to_be_none():
    assert said({"llm": judge(0.55, 0.49, 0.61)})[1:] == [NO_DIFFERENCE]
    assert not said({"llm": judge(0.55, 0.51, 0.61)})[1:]


def test_a_judge_without_a_label_has_no_rate_and_no_figure_is_made_up():
    assert said({"llm": judge(None, None, None)}) == ["No judge gave a label, so there is no win rate."]
    assert headline({}, None) == []


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            {"reward": step("reward", metrics={"eval_accuracy": 0.714})},
            "right on 71% of held-out comparisons or labels",
        ),
        ({"sft": step("sft", metrics={"eval_loss": 2.3456})}, "held-out rows is 2.35 nats per token"),
    ],
)
def test_a_run_that_aligns_nothing_tells_of_what_it_trained(steps, sentence):
    assert sentence in headline(steps, None)[0]


def test_what_was_set_is_told_and_what_is_the_default_is_not():
    init = step("init", {"path": "../smollm2"}, {"parameters": 134_515_008.0})
    tables = {"tables": {"prompts": {"kept": 1200}}}
    steps = {"init": init, "prepare": step("prepare", statistics=tables), "align": step(config={"method": "kto"})}
    assert ran_with(steps) == {
        "base model": "../smollm2",
        "parameters": "134,515,008",
        "rows kept": "prompts 1,200",
        "align": "method kto",
    }


def test_the_best_model_is_the_last_one_that_was_trained_for_answers():
    assert model_path({"sft": step("sft"), "align": DPO}) == "align"
    assert model_path({"sft": step("sft")}) == "sft" and model_path({}) is None


def test_warnings_of_all_steps_stand_together():
    steps = [step("sft", warnings=["short"]), step("label", warnings=["weak judge"])]
    assert warnings_of(steps) == ["sft: short", "label: weak judge"]
