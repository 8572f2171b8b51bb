"""The stage `evaluate`: two models on the same prompts."""

import json

import pytest

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig
from alignflow.data.errors import DataError
from alignflow.data.records import read_table, user, write_table
from alignflow.models.evaluators.evaluate import evaluate


@pytest.fixture
def inputs(tmp_path):
    prompts = tmp_path / "evaluation"
    rows = [{"id": f"e{i}", "source": "t", "prompt": user(f"the cat {i}"), "instructions": None} for i in range(6)]
    rows[0]["instructions"] = json.dumps([{"id": "punctuation:no_comma", "kwargs": {}}])
    write_table(rows, "prompts", prompts / "prompts.parquet")
    write_table(
        [{"id": "g", "source": "t", "text": "the dog ran to the red house"}],
        "texts",
        tmp_path / "general" / "texts.parquet",
    )
    return prompts, tmp_path / "general"


CONFIG = EvaluateConfig(
    labelling_judge=JudgeConfig(),
    judges=(JudgeConfig(options={"constitution": "reader"}),),
    max_prompts=5,
    max_new_tokens=8,
    samples=2,
)


def test_the_stage_compares_two_models_and_says_what_it_left_out(new_run, tiny_checkpoint, inputs):
    prompts, general = inputs
    run = new_run()
    metrics = evaluate(
        CONFIG,
        aligned=tiny_checkpoint,
        sft=tiny_checkpoint,
        prompts=prompts,
        general=general,
        reward_model=None,
        run=run,
    )
    found = json.loads((run.out / "evaluation.json").read_text())
    assert found["left_out"] == {"reward_score": "the recipe gives no reward_model"} and found["prompts"] == 5
    assert (
        set(found["win_rate"]) == {"rubric:helpful", "rubric:reader"}
        and found["win_rate"]["rubric:helpful"]["made_the_labels"]
    )
    assert metrics["win_rate/rubric:helpful"] == 0.5, "a model against itself, with the same seeds, ties everywhere"
    assert metrics["kl"] == pytest.approx(0, abs=1e-4) and metrics["heldout_nll/change"] == pytest.approx(0, abs=1e-6)
    assert len(json.loads((run.out / "samples.json").read_text())) == 2
    assert found["samples"]["by"] == "rubric:reader", "the judge that did not make the labels says what is clear"
    assert [row["judge"] for row in read_table(run.out / "verdicts.parquet")] == ["rubric:helpful"] * 5 + [
        "rubric:reader"
    ] * 5
    assert len(read_table(run.out / "answers" / "aligned.parquet")) == 5


def test_the_stage_writes_the_same_bytes_again(new_run, tiny_checkpoint, inputs):
    prompts, general = inputs
    for name in ("a", "b"):
        evaluate(
            CONFIG,
            aligned=tiny_checkpoint,
            sft=tiny_checkpoint,
            prompts=prompts,
            general=general,
            reward_model=None,
            run=new_run(name),
        )
    digests = [
        {file: file_digest(new_run(name).out / file) for file in payload_files(new_run(name).out)}
        for name in ("a", "b")
    ]
    assert digests[0] == digests[1]


def test_no_prompts_is_an_error(new_run, tiny_checkpoint, tmp_path):
    write_table([], "prompts", tmp_path / "prompts.parquet")
    with pytest.raises(DataError, match="no evaluation prompts"):
        evaluate(
            CONFIG,
            aligned=tiny_checkpoint,
            sft=tiny_checkpoint,
            prompts=tmp_path,
            general=None,
            reward_model=None,
            run=new_run(),
        )
