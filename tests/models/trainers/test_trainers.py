"""Training learns what its data says, loses nothing to a kill, and refuses what cannot be trusted."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import user, write_table
from alignflow.data.run import Runtime
from alignflow.models.policy import load_policy
from alignflow.models.reward_model import load_reward_model
from alignflow.models.trainers.fit import Plan, learning_rate, step_order, total_steps
from alignflow.models.trainers.held_out import HeldOut
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.reward import train_reward
from alignflow.models.trainers.saved_state import SavedStates
from alignflow.models.trainers.sft import train_sft


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


SFT = SFTConfig(learning_rate=5e-3, max_steps=30, batch_size=14, logging_steps=5, save_steps=4, max_length=64)
REWARD = RewardConfig(
    learning_rate=5e-3, max_steps=25, batch_size=20, logging_steps=5, save_steps=4, max_length=64, check_rows=4
)
DPO = AlignConfig(
    learning_rate=5e-3, max_steps=15, batch_size=20, logging_steps=5, save_steps=4, max_length=64, options={"beta": 0.1}
)


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_sft_learns_the_demonstrations(engine, new_run, tiny_checkpoint, demonstrations):
    run = new_run(engine=engine)
    metrics = train_sft(SFT, base=tiny_checkpoint, demonstrations=demonstrations, run=run)
    curve = [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]
    training, held_out = ([point for point in curve if name in point] for name in ("loss", "eval_loss"))
    assert [point["step"] for point in training] == [5, 10, 15, 20, 25, 30] and [
        point["step"] for point in held_out
    ] == [30]
    assert (
        training[-1]["loss"] < 0.7 * training[0]["loss"]
        and metrics["eval_mean_token_accuracy"] > 0.3
        and run.tokens > 0
    )
    assert load_policy(run.out, Runtime()).model.config.vocab_size


def test_the_reward_model_learns_the_preference(new_run, tiny_checkpoint, preferences):
    run = new_run()
    metrics = train_reward(REWARD, base=tiny_checkpoint, preferences=preferences, run=run)
    assert metrics["eval_accuracy"] == 1.0 and metrics["eval_accuracy/low"] < 1.0 and metrics["eval_pairs"] == 10
    better, worse = load_reward_model(run.out, Runtime()).score(
        [(user("the cat"), "cat hill", True), (user("the cat"), "dog hill", True)]
    )
    assert better > worse


def test_dpo_raises_the_margin_from_ln_2(new_run, tiny_checkpoint, preferences):
    run = new_run()
    metrics = train_offline(DPO, policy=tiny_checkpoint, reference=None, preferences=preferences, run=run)
    assert metrics["eval_rewards/accuracies"] == 1.0 and metrics["eval_loss"] < 0.9 * math.log(2)
    assert metrics["rewards/margins"] > 0


BODIES = {
    "sft": lambda new_run, name, base, demonstrations, preferences, **runtime: train_sft(
        SFT, base=base, demonstrations=demonstrations, run=new_run(name, **runtime)
    ),
    "reward": lambda new_run, name, base, demonstrations, preferences, **runtime: train_reward(
        REWARD, base=base, preferences=preferences, run=new_run(name, **runtime)
    ),
    "align": lambda new_run, name, base, demonstrations, preferences, **runtime: train_offline(
        DPO, policy=base, reference=None, preferences=preferences, run=new_run(name, **runtime)
    ),
}


STOPPING = {"eval_steps": 2, "early_stopping_patience": 2, "load_best_model_at_end": True, "max_steps": 40}
STOPPING_BODIES = {  # SFT at a rate that ruins it; accuracies that reach 1 and get no better
    "eval_loss": lambda run, base, demonstrations, preferences: train_sft(
        SFT.model_copy(update=STOPPING | {"learning_rate": 3.0}), base=base, demonstrations=demonstrations, run=run
    ),
    "eval_accuracy": lambda run, base, demonstrations, preferences: train_reward(
        REWARD.model_copy(update=STOPPING | {"metric_for_best_model": "eval_accuracy"}),
        base=base,
        preferences=preferences,
        run=run,
    ),
    "eval_rewards/accuracies": lambda run, base, demonstrations, preferences: train_offline(
        DPO.model_copy(update=STOPPING | {"metric_for_best_model": "eval_rewards/accuracies"}),
        policy=base,
        reference=None,
        preferences=preferences,
        run=run,
    ),
}


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("stage", list(BODIES))
@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    stage, engine, new_run, tiny_checkpoint, demonstrations, preferences, monkeypatch
):
    body, arguments = BODIES[stage], (tiny_checkpoint, demonstrations, preferences)
    metrics = body(new_run, "whole", *arguments, engine=engine)
    saved = SavedStates.save

    def save_then_die(self, step, *arguments):
        saved(self, step, *arguments)
        if step >= 8:
            raise Killed

    monkeypatch.setattr(SavedStates, "save", save_then_die)
    with pytest.raises(Killed):
        body(new_run, "killed", *arguments, engine=engine)
    monkeypatch.undo()
    assert not list(new_run("killed").out.iterdir())
    assert body(new_run, "killed", *arguments, engine=engine) == metrics
    assert digests(new_run("whole").out) == digests(new_run("killed").out)
    curves = [
        [json.loads(line) for line in (new_run(name).side / "curves.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    for point in (*curves[0], *curves[1]):
        point.pop("tokens_per_s", None)
    assert curves[0] == curves[1], "the states lie between two points of the curves"


@pytest.mark.parametrize("metric", list(STOPPING_BODIES))
def test_a_killed_training_stops_as_early_and_publishes_the_same_best_model(
    metric, new_run, tiny_checkpoint, demonstrations, preferences, monkeypatch
):
    body, arguments = STOPPING_BODIES[metric], (tiny_checkpoint, demonstrations, preferences)
    whole = body(new_run("whole"), *arguments)
    assert whole["best_step"] < whole["stopped_at_step"] < 40 and whole[f"best_{metric}"] == whole[metric]
    kept = HeldOut._keep

    def keep_then_die(self, step):
        kept(self, step)
        if step == whole["best_step"]:
            raise Killed

    monkeypatch.setattr(HeldOut, "_keep", keep_then_die)
    with pytest.raises(Killed):
        body(new_run("killed"), *arguments)
    monkeypatch.undo()
    killed = body(new_run("killed"), *arguments)
    assert digests(new_run("whole").out) == digests(new_run("killed").out)
    assert {name: killed[name] for name in whole if name.startswith(("eval", "best", "stopped"))} == {
        name: whole[name] for name in whole if name.startswith(("eval", "best", "stopped"))
    }


@pytest.mark.parametrize("stage", list(BODIES))
def test_small_micro_batches_change_results_by_rounding_only(
    stage, new_run, tiny_checkpoint, demonstrations, preferences
):
    for name, tokens in (("large", 8192), ("small", 64)):
        BODIES[stage](new_run, name, tiny_checkpoint, demonstrations, preferences, micro_batch_tokens=tokens)
    weights = [load_file(new_run(name).out / "model.safetensors") for name in ("large", "small")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=5e-3, rtol=5e-2)


def test_bf16_products_pass_the_start_and_reload_checks(new_run, tiny_checkpoint, preferences):
    """The reference is packed otherwise than the training batches; in bf16 the two differ by more than fp32 rounding."""
    short = {"max_steps": 2, "batch_size": 8}
    aligned = train_offline(
        DPO.model_copy(update=short),
        policy=tiny_checkpoint,
        reference=None,
        preferences=preferences,
        run=new_run("dpo", precision="bf16"),
    )
    assert math.isfinite(aligned["eval_loss"])
    run = new_run("reward", precision="bf16")
    train_reward(REWARD.model_copy(update=short), base=tiny_checkpoint, preferences=preferences, run=run)
    load_reward_model(run.out, Runtime(precision="bf16"))


def test_zero_steps_are_refused(new_run, tiny_checkpoint, demonstrations):
    with pytest.raises(TrainingError, match="zero optimizer steps"):
        train_sft(
            SFT.model_copy(update={"max_steps": 0}), base=tiny_checkpoint, demonstrations=demonstrations, run=new_run()
        )


def test_rows_without_supervised_tokens_are_refused_by_name(new_run, tiny_checkpoint, tmp_path):
    rows = [{"id": "mute", "source": "t", "messages": user("hello")}]
    for side in ("train", "heldout"):
        write_table(rows, "demonstrations", tmp_path / f"{side}.parquet")
    with pytest.raises(TrainingError, match="no supervised token: mute"):
        train_sft(SFT, base=tiny_checkpoint, demonstrations=tmp_path, run=new_run())


def test_a_loss_that_is_not_finite_names_the_step_and_the_rows(new_run, tiny_checkpoint, demonstrations, tmp_path):
    import shutil

    shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"sft, step 1, rows d\d+.*the loss is nan"):
        train_sft(SFT, base=tmp_path / "broken", demonstrations=demonstrations, run=new_run())


def test_over_long_rows_are_left_out_and_counted(new_run, tiny_checkpoint, preferences):
    run = new_run()
    with pytest.raises(TrainingError, match="no preference pairs"):
        train_reward(
            REWARD.model_copy(update={"max_length": 4}), base=tiny_checkpoint, preferences=preferences, run=run
        )
    assert "40 pairs of train are over max_length 4" in run.warnings[0]


def test_the_schedule_warms_up_and_comes_down():
    config = SFTConfig(learning_rate=1.0, warmup_ratio=0.1, lr_scheduler_type="linear")
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates[10] == 1.0 and rates[-1] < 0.02


@pytest.mark.parametrize(
    ("rows", "epochs", "batch", "steps"), [(10, 1, 4, 3), (10, 2, 4, 5), (10, 0.5, 4, 2), (0, 1, 4, 0), (8, 1, 4, 2)]
)
def test_steps_cover_the_epochs(rows, epochs, batch, steps):
    assert total_steps(rows, SFTConfig(num_train_epochs=epochs, batch_size=batch)) == steps


def test_an_epoch_shows_every_row_once_in_an_order_of_the_seed():
    plan = Plan("x", [1] * 10, [1] * 10, [""] * 10)
    config = SFTConfig(num_train_epochs=2, batch_size=5)
    order = step_order(plan, config)
    first, second = order(0) + order(1), order(2) + order(3)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert step_order(plan, config.model_copy(update={"seed": 1}))(0) != order(0)
