"""Where a judge is measured in a run, and what its labels are calibrated by."""

import pytest

from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.flows.graph import nodes
from alignflow.flows.steps import Link

GOLD = {"data": [{"path": "gold.jsonl"}]}
LLM = {"judge": {"name": "llm"}}
PROMPTS = {"data": {"prompts": [{"path": "p.jsonl"}]}, "model": {"path": "m"}}


def steps(**content):
    return {node.name: node for node in nodes(Recipe.model_validate(content))}


def test_the_judge_is_measured_before_anything_is_sampled_for_it():
    found = steps(**PROMPTS, judge_eval=GOLD, label=LLM)
    order = list(found)
    assert order.index("judge_eval") < order.index("sample") < order.index("label")
    assert found["judge_eval"].config.judge.name == "llm" and found["judge_eval"].inputs == {"policy": Link("init")}


def test_a_gate_may_hold_a_run_by_its_agreement():
    gate = {"stage": "judge_eval", "metric": "accuracy/low", "minimum": 0.55}
    assert "judge_eval" in steps(**PROMPTS, judge_eval=GOLD, gates=[gate])


def test_labels_take_the_calibration_where_that_is_asked_for_alone():
    assert "calibration" not in steps(**PROMPTS, judge_eval=GOLD)["label"].inputs
    calibrated = steps(**PROMPTS, judge_eval=GOLD, label={"calibrate": True})["label"]
    assert calibrated.inputs["calibration"] == Link("judge_eval", "calibration")


@pytest.mark.parametrize(
    ("judge_eval", "words"),
    [
        (None, "nothing measures the judge"),
        ({**GOLD, **LLM}, "a different judge"),
        ({"recorded": "r.jsonl"}, "a different judge"),
    ],
)
def test_a_calibration_of_no_judge_or_of_another_one_is_refused(judge_eval, words):
    with pytest.raises(RecipeError, match=words):
        steps(**PROMPTS, judge_eval=judge_eval, label={"calibrate": True})


def test_a_recipe_that_measures_a_judge_alone_needs_no_data_and_a_model_only_where_the_judge_does():
    alone = dict.fromkeys(("sft", "reward", "align", "evaluate", "report"))
    assert list(steps(judge_eval={**GOLD, "judge": {"name": "rubric"}}, **alone)) == ["judge_eval"]
    assert list(steps(judge_eval={"recorded": "r.jsonl"}, label=LLM, **alone)) == ["judge_eval"]
    assert list(steps(judge_eval={**GOLD, **LLM}, model={"path": "m"}, **alone)) == ["init", "judge_eval"]


def test_gold_or_replies_and_not_both():
    with pytest.raises(ValueError, match="either data with human labels"):
        steps(**PROMPTS, judge_eval={})
