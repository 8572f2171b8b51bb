"""Accuracy before and after by what a program can check."""

import pytest

from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.configs.verifiers import PerRowRewardOptions, VerifierConfig
from alignflow.data.records import read_table, user, write_table
from alignflow.models.evaluators import verifiable
from alignflow.models.evaluators.base import Answer, EvaluationInputs
from alignflow.models.evaluators.evaluate import evaluate

NUMERIC = PerRowRewardOptions(verifiers=(), otherwise=VerifierConfig())


def inputs(run, aligned, sft, references, **config):
    prompts = [{"id": f"q{i}", "prompt": user("?"), "reference": text} for i, text in enumerate(references)]
    answers = {name: [Answer(text, True, 1) for text in texts] for name, texts in (("aligned", aligned), ("sft", sft))}
    config = EvaluateConfig(temperature=0.0, verifiable=NUMERIC, **config)
    return EvaluationInputs(config, prompts, answers, {}, None, None, run)


def test_both_models_have_an_accuracy_with_wilsons_interval(new_run):
    """Wilson's 95% interval of 3 of 4 is 0.3006 to 0.9544."""
    run = new_run()
    found = verifiable.evaluate(inputs(run, ["1", "2", "3", "x"], ["1", "0", "x", "x"], ["1", "2", "3", "4"]))
    metrics = found.metrics
    assert metrics["verifiable/aligned"] == 0.75 and metrics["verifiable/sft"] == 0.25
    assert metrics["verifiable/aligned/low"] == pytest.approx(0.3006, abs=1e-4)
    assert metrics["verifiable/aligned/high"] == pytest.approx(0.9544, abs=1e-4)
    assert metrics["verifiable/change"] == 0.5
    assert metrics["verifiable/change/low"] == pytest.approx(0.5 - (0.4494**2 + 0.4494**2) ** 0.5, abs=1e-3)
    assert metrics["verifiable/change/high"] == pytest.approx(0.5 + (0.2044**2 + 0.2044**2) ** 0.5, abs=1e-3)
    assert metrics["verifiable/unparsed/aligned"] == 1 and metrics["verifiable/unparsed/sft"] == 2
    assert found.details["change"]["better"] == 2 and found.details["change"]["worse"] == 0 and not run.warnings


def test_a_prompt_that_cannot_be_checked_is_in_no_accuracy_and_is_said(new_run):
    run = new_run()
    metrics = verifiable.evaluate(inputs(run, ["1", "1"], ["1", "1"], ["1", None])).metrics
    assert metrics["verifiable/aligned"] == 1 and metrics["verifiable/unchecked"] == 1
    assert "1 of 2 prompts cannot be checked" in run.warnings[0] and "no reference" in run.warnings[0]


def test_where_nothing_changed_the_interval_is_no_point(new_run):
    metrics = verifiable.evaluate(inputs(new_run(), ["1"] * 9, ["1"] * 9, ["1"] * 9)).metrics
    assert (
        metrics["verifiable/change"] == 0
        and metrics["verifiable/change/low"] < -0.2 < 0.2 < metrics["verifiable/change/high"]
    )


def test_nothing_to_check_is_no_accuracy_and_not_0(new_run):
    metrics = verifiable.evaluate(inputs(new_run(), ["1"], ["1"], [None])).metrics
    assert metrics["verifiable/aligned"] is None and metrics["verifiable/change"] is None


def test_the_answers_are_greedy_whatever_the_other_evaluators_look_at(new_run, tiny_checkpoint, tmp_path):
    rows = [
        {"id": f"e{i}", "source": "t", "prompt": user(f"the cat {i}"), "reference": "7", "verifier": "numeric_answer"}
        for i in range(3)
    ]
    write_table(rows, "prompts", tmp_path / "prompts.parquet")

    def found(name, **config):
        config = EvaluateConfig(evaluators=("verifiable",), max_new_tokens=6, **config)
        paths = {"aligned": tiny_checkpoint, "sft": tiny_checkpoint, "prompts": tmp_path}
        run = new_run(name)
        metrics = evaluate(config, **paths, general=None, reward_model=None, run=run)
        return metrics, [row["completions"] for row in read_table(run.out / "answers" / "aligned.parquet")]

    warm, sampled = found("warm", temperature=5.0)
    cold, greedy = found("cold", temperature=0.0)
    assert sampled != greedy and warm == cold and warm["verifiable/unchecked"] == 0
