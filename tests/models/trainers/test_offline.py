"""Two networks that learn beside each other have graphs of their own; scores become what a loss takes them relative to."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alignflow.data import catalogue
from alignflow.data.configs.lists import LiPOOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.configs.unpaired import DROVOptions
from alignflow.data.errors import TrainingError
from alignflow.data.records import user, write_table
from alignflow.data.run import Runtime
from alignflow.models.losses.base import LossOutput, OfflineBatch, Role
from alignflow.models.losses.binary_feedback import dro_v
from alignflow.models.policy import load_policy
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.offline import (
    BoundMethod,
    check_scores,
    evaluate_rows,
    parted_losses,
    score_constants,
    settings_shown,
    train_offline,
)
from alignflow.models.trainers.offline_rows import read_scored
from alignflow.models.trainers.reference_scores import Fed, fed_by

SCORED = [("the cat", ["cat mat", "bird mat", "dog mat"]), ("the hill", ["cat rain", "bird rain", "dog rain"])]


def batch_of(logps, values):
    count = len(logps)
    return OfflineBatch(
        group=torch.arange(count),
        role=torch.full((count,), int(Role.OTHER)),
        logps=logps,
        tokens=torch.tensor([2, 1, 3]),
        ended=torch.ones(count, dtype=torch.bool),
        reference_logps=torch.tensor([-3.0, -2.0, -4.0]),
        soft_label=torch.full((count,), float("nan")),
        statistics={"values": values},
        score=torch.tensor([1.0, -1.0, 0.5]),
        step={"score_mean": torch.tensor(0.0), "score_std": torch.tensor(1.0)},
    )


@pytest.mark.parametrize("per_token", [False, True])
def test_each_part_of_a_loss_reaches_its_own_network_and_both_have_the_gradients_of_the_whole(per_token):
    options = DROVOptions(value_per_token=per_token)
    method = BoundMethod(lambda batch: dro_v(batch, options), False, None)

    def leaves():
        return torch.tensor([-3.5, -1.0, -4.0], requires_grad=True), torch.linspace(-1, 1, 6).requires_grad_(True)

    logps, values = leaves()
    dro_v(batch_of(logps, values), options).loss.sum().backward()
    own_logps, own_values = leaves()
    output, beside = parted_losses(method, batch_of(own_logps, own_values))
    output.loss.sum().backward()
    assert own_values.grad is None and torch.equal(own_logps.grad, logps.grad)
    policy_gradient = own_logps.grad.clone()
    beside["value"].backward()
    assert torch.equal(own_logps.grad, policy_gradient) and torch.equal(own_values.grad, values.grad)
    assert float(values.grad.abs().sum()) > 0 and float(logps.grad.abs().sum()) > 0


def test_a_method_without_a_value_network_has_one_loss():
    method = BoundMethod(lambda batch: SimpleNamespace(loss=batch.logps), False, None)
    batch = batch_of(torch.zeros(3), torch.zeros(6))
    assert parted_losses(method, OfflineBatch(**{**vars(batch), "statistics": {}}))[1] == {}


def test_a_held_out_loss_that_is_not_a_number_is_told(rankings, tiny_checkpoint, new_run):
    """A figure that is NaN is one that a row does not have; a loss is not: without it the other rows would make a broken model the best."""
    policy, run = load_policy(tiny_checkpoint, Runtime()), new_run()
    side = Answers(
        policy, read_scored(rankings(1.0, 0.5, 0.0) / "heldout.parquet", policy.tokenizer, 64, run, "align"), None
    )
    figures = SimpleNamespace(held_out=lambda: lambda rows: {})
    losses = torch.tensor([1.0, float("nan"), 1.0, 1.0, 1.0, 1.0])
    method = BoundMethod(lambda batch: LossOutput(losses, {"rewards": losses}), False, figures)
    found = evaluate_rows(side, method, run)
    assert math.isnan(found["eval_loss"]) and found["eval_rewards"] == 1.0


def test_of_several_tables_the_most_direct_one_is_read_and_one_that_it_cannot_read_is_refused(tmp_path):
    pairs, labels = tmp_path / "pairs", tmp_path / "labels"
    given = {"preferences": pairs, "unpaired": labels, "rankings": None}
    assert fed_by("unpaired", given, "align") == Fed("unpaired", "unpaired", labels)
    assert fed_by("lists", given, "align") == Fed("lists", "preferences", pairs)
    with pytest.raises(TrainingError, match="use rankings"):
        fed_by("scored", given, "align")


@pytest.mark.parametrize(("scores", "expected"), [([1.0, 3.0], (2.0, 1.0)), ([2.0, 2.0], (2.0, 1.0)), (None, None)])
def test_scores_are_taken_relative_to_the_training_set(scores, expected):
    found = score_constants(SimpleNamespace(score=None if scores is None else torch.tensor(scores)))
    assert found == ({} if expected is None else {"score_mean": expected[0], "score_std": expected[1]})


def test_what_is_at_its_default_is_not_on_the_model_card():
    row = catalogue.METHODS["dro_v"]
    assert settings_shown(row.options()) == {} and settings_shown(row.options(tau=0.5)) == {"tau": "0.5"}


@pytest.fixture
def rankings(tmp_path):
    def write(*scores):
        rows = [
            {"id": f"r{i}", "source": "t", "prompt": user(prompt), "completions": texts, "scores": list(scores)}
            for i, (prompt, texts) in enumerate(SCORED)
        ]
        for side in ("train", "heldout"):
            write_table(rows, "rankings", tmp_path / f"{side}.parquet")
        return tmp_path

    return write


def dro(directory, checkpoint, run, **options):
    config = AlignConfig(
        method="dro_v", options=options, learning_rate=5e-3, max_steps=24, batch_size=6, max_length=64, logging_steps=1
    )
    return train_offline(config, policy=checkpoint, rankings=directory, run=run)


def test_the_policy_raises_answers_with_high_scores_and_lowers_those_with_low_ones(rankings, tiny_checkpoint, new_run):
    run, directory = new_run(), rankings(1.0, 0.5, 0.0)
    dro(directory, tiny_checkpoint, run)
    before, after = load_policy(tiny_checkpoint, Runtime()), load_policy(run.out, Runtime())
    rows = read_scored(directory / "train.parquet", before.tokenizer, 64, new_run("read"), "align")
    rho = (
        (after.token_statistics(list(rows.answers)).sums() - before.token_statistics(list(rows.answers)).sums())
        .detach()
        .numpy()
    )
    scores = rows.score.numpy()
    assert rho[scores == 1.0].min() > 0 > rho[scores == 0.0].max() and np.corrcoef(rho, scores)[0, 1] > 0.8


def test_the_value_network_learns_what_is_usual_for_a_prompt(rankings, tiny_checkpoint, new_run):
    """All answers have one score, and with a small tau no log-ratio can explain it: only the value can."""
    found = dro(rankings(2.0, 2.0, 2.0), tiny_checkpoint, new_run(), normalise_scores=False, tau=1e-3)
    assert found["eval_values"] == pytest.approx(2.0, abs=0.5)


def test_deepspeed_steps_both_networks_as_plain_torch_does(rankings, tiny_checkpoint, new_run):
    directory = rankings(1.0, 0.5, 0.0)
    found = [dro(directory, tiny_checkpoint, new_run(engine, engine=engine)) for engine in ("torch", "deepspeed")]
    assert set(found[0]) == set(found[1]) and "value/grad_norm" in found[0]
    for name in ("loss", "value/grad_norm", "eval_loss", "eval_values", "eval_rewards"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-2, abs=1e-3), name


@pytest.mark.parametrize(
    ("labels", "scores", "refused"),
    [
        ("scores", [0.0, 1.0], ""),
        ("scores", [0.2, 1.5], "train are from 0.2 to 1.5"),
        ("scores", [-3.0, 0.5], "train are from -3 to 0.5"),
        ("win_rates", [-3.0, 90.0], ""),
        ("scores", [], ""),
    ],
)
def test_lipo_refuses_scores_that_are_no_probabilities_only_where_they_are_its_labels(labels, scores, refused):
    rows = {"train": SimpleNamespace(score=torch.tensor(scores)), "heldout": SimpleNamespace(score=torch.tensor([0.5]))}
    if not refused:
        check_scores(rows, "lipo", LiPOOptions(labels=labels))
        return
    with pytest.raises(TrainingError, match=refused) as error:
        check_scores(rows, "lipo", LiPOOptions(labels=labels))
    assert error.value.where == "align.options.labels" and "win_rates" in error.value.do


def test_scores_are_refused_before_anything_is_trained(tmp_path, tiny_checkpoint, new_run):
    rows = [
        {"id": f"r{number}", "source": "t", "prompt": user(prompt), "completions": answers, "scores": [5.0, 1.0, 0.0]}
        for number, (prompt, answers) in enumerate(SCORED)
    ]
    for side in ("train", "heldout"):
        write_table(rows, "rankings", tmp_path / f"{side}.parquet")
    run = new_run()
    config = AlignConfig(method="lipo", options={"labels": "scores"}, max_length=64)
    with pytest.raises(TrainingError, match="lipo with labels: scores needs scores from 0 to 1"):
        train_offline(config, policy=tiny_checkpoint, rankings=tmp_path, run=run)
    assert not (run.side / "curves.jsonl").exists()
