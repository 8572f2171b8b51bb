"""Distillation on the student's own answers: the divergence falls, and a kill costs nothing."""

import json

import pytest
from live_engine import Elsewhere
from tiny_model import make_checkpoint, wide_awake

from alignflow.data.artifacts import file_digest
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError
from alignflow.data.records import user, write_table
from alignflow.data.run import Runtime
from alignflow.models.generation import live
from alignflow.models.trainers import online_distillation
from alignflow.models.trainers.align import align


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Another model with the student's tokenizer."""
    return wide_awake(make_checkpoint(tmp_path_factory.mktemp("teacher")))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    root = tmp_path_factory.mktemp("prompts")
    rows = [
        {"id": f"q{i}", "source": "t", "prompt": user(f"the {w}"), "instructions": None} for i, w in enumerate("ab")
    ]
    write_table(rows, "prompts", root / "train.parquet")
    return root


def train(run, student, teacher, prompts, steps=3, rate=1e-2, **options):
    chosen = {"teacher": str(teacher), "response_length": 6, "samples": 1, **options}
    config = AlignConfig(
        method="on_policy_distillation",
        learning_rate=rate,
        max_steps=steps,
        batch_size=8,
        max_length=64,
        logging_steps=1,
        options=chosen,
    )
    return align(config, policy=student, prompts=prompts, run=run)


def curve(run):
    return [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_divergence_from_the_teacher_falls(beta, new_run, tiny_checkpoint, teacher, prompts):
    run = new_run()
    metrics = train(run, tiny_checkpoint, teacher, prompts, 8, beta=beta)
    points = curve(run)
    assert points[-1]["divergence"] < 0.9 * points[0]["divergence"] and metrics["episodes"] == 64
    assert {"completions/mean_length", "val/contain_eos_token", "policy/entropy_avg", "lr"} <= points[0].keys()
    assert (run.side / "samples.jsonl").read_text().count("\n") == 2


def test_another_engine_samples_the_students_answers_and_the_mismatch_is_shown(
    new_run, tiny_checkpoint, teacher, prompts, monkeypatch
):
    engine = Elsewhere(tiny_checkpoint, Runtime())
    monkeypatch.setattr(live, "make_live_engine", lambda *_: engine)
    own, other = new_run("own", micro_batch_tokens=64), new_run("other", micro_batch_tokens=64)
    train(own, tiny_checkpoint, teacher, prompts)
    train(other, tiny_checkpoint, teacher, prompts, generator="vllm")
    assert engine.taken == 3
    for one, two in zip(curve(own), curve(other), strict=True):
        assert {name.split("/")[0] for name in two.keys() - one.keys()} == {"sampling"} and len(two) == len(one) + 7
        assert {name: two[name] for name in one} == pytest.approx(one, rel=1e-3, abs=1e-4), "the same answers"
        assert 0 < two["sampling/sampling_logp_difference/max"] < 1e-4


def test_a_teacher_that_is_the_student_teaches_nothing(new_run, tiny_checkpoint, prompts):
    run = new_run()
    train(run, tiny_checkpoint, tiny_checkpoint, prompts, 1)
    assert curve(run)[0]["divergence"] == pytest.approx(0, abs=1e-6) and curve(run)[0]["grad_norm"] < 1e-3


class Killed(BaseException):
    """Stands for kill -9."""


def test_a_kill_ends_with_the_bytes_of_an_undisturbed_run(new_run, tiny_checkpoint, teacher, prompts, monkeypatch):
    whole = new_run("whole")
    train(whole, tiny_checkpoint, teacher, prompts)
    steps = []

    def dying(self, *arguments, real=online_distillation.DistillationTraining._step):
        steps.append(1)
        if len(steps) == 2:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(online_distillation.DistillationTraining, "_step", dying)
        with pytest.raises(Killed):
            train(new_run("killed"), tiny_checkpoint, teacher, prompts)
    run = new_run("killed")
    train(run, tiny_checkpoint, teacher, prompts)
    assert file_digest(run.out / "model.safetensors") == file_digest(whole.out / "model.safetensors")
    assert curve(run) == curve(whole)


def test_given_answers_are_for_gkd(new_run, tiny_checkpoint, teacher, prompts):
    with pytest.raises(RecipeError, match="lmbda"):
        train(new_run(), tiny_checkpoint, teacher, prompts, lmbda=0.5)
