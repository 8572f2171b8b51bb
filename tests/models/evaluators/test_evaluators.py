"""Figures of the evaluation, against hand-worked numbers; and the whole stage on tiny models."""

import json

import pytest

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig
from alignflow.data.errors import DataError
from alignflow.data.records import read_table, user, write_table
from alignflow.models.evaluators.base import Answer, mean_interval
from alignflow.models.evaluators.evaluate import evaluate
from alignflow.models.evaluators.instructions import count
from alignflow.models.evaluators.text_statistics import describe
from alignflow.models.evaluators.win_rate import flagged, judge_name, outcome, summary
from alignflow.models.judges.base import IDENTICAL, Candidate, Verdict


def test_a_mean_with_students_interval():
    found = mean_interval([1.0, 2.0, 3.0], 0.95)  # s / sqrt(3) = 0.5774, t(0.975, 2) = 4.3027
    assert (found["mean"], round(found["low"], 3), round(found["high"], 3)) == (2.0, -0.484, 4.484)
    assert mean_interval([], 0.95) == {"mean": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        (Verdict(0.8), 1.0),
        (Verdict(0.2), 0.0),
        (Verdict(0.5), 0.5),
        (Verdict(0.506, orders=(0.912, 0.1)), 0.5),
        (Verdict(None, reason=IDENTICAL), 0.5),
        (Verdict(None, reason="no answer"), None),
    ],
)
def test_ties_and_equal_answers_count_half_and_no_label_not_at_all(verdict, value):
    assert outcome(verdict) == value


def test_a_win_rate_counts_apart_what_has_no_label():
    found = summary(
        [Verdict(0.9, orders=(0.9, 0.8)), Verdict(0.9, orders=(0.7, 0.4)), Verdict(0.5), Verdict(None, reason="x")],
        0.95,
    )
    assert (found["wins"], found["ties"], found["losses"], found["no_label"]) == (1, 2, 0, 1), (
        "one preference changes with the order"
    )
    assert found["win_rate"] == pytest.approx(2 / 3) and found["flip_rate"] == 0.5


def test_a_win_rate_holds_how_much_of_the_judges_probability_lay_on_its_options():
    found = summary([Verdict(0.9, masses=(0.8, 0.6)), Verdict(None, reason="not finite", masses=(0.0, 0.2))], 0.95)
    assert found["option_mass"]["mean"] == pytest.approx(0.4) and found["option_mass"]["count"] == 4
    assert "option_mass" not in summary([Verdict(0.9)], 0.95)


def test_answers_with_marks_of_the_judges_own_are_counted_for_each_model():
    class Reader:
        def flags(self, candidates):
            return [["verdict"] if "verdict" in candidate.text else [] for candidate in candidates]

    asked = [(Candidate([], "verdict: me"), Candidate([], "b")), (Candidate([], "c"), Candidate([], "d"))]
    assert flagged(Reader(), asked) == {"aligned": 1, "sft": 0} and flagged(object(), asked) is None


def test_two_rubrics_have_two_names():
    assert judge_name(JudgeConfig()) == "rubric:helpful"
    assert judge_name(JudgeConfig(options={"constitution": "a/reader.yaml"})) == "rubric:reader"
    assert judge_name(JudgeConfig(name="llm")) == "llm"


def test_text_statistics_by_hand():
    found = describe([Answer("a b c a b c", True, 7), Answer("d", False, 3)])
    assert found["tokens_mean"] == 5 and found["stop_rate"] == 0.5 and found["words_mean"] == 3.5
    assert found["repetition"] == pytest.approx(0.25 / 2) and found["distinct_1"] == pytest.approx(4 / 7)


def test_instructions_are_counted_per_prompt_and_per_instruction():
    two = [{"id": "punctuation:no_comma", "kwargs": {}}, {"id": "change_case:english_lowercase", "kwargs": {}}]
    found = count(
        [
            (Answer("small", True, 1), two),
            (Answer("Small", True, 1), two),
            (Answer("x", True, 1), [{"id": "no:such", "kwargs": {}}]),
        ],
        0.95,
    )
    assert (
        found["prompt_strict"]["rate"] == 0.5 and found["instruction_strict"]["rate"] == 0.75 and found["unknown"] == 1
    )


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
