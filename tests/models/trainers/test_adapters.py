"""Every training stage trains an adapter as it trains a model: it learns, survives kills, and DPO starts at log-ratios of 0."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("peft")

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, LoRAConfig, ReferenceConfig, RewardConfig, SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.adapters import Adapter
from alignflow.models.policy import load_policy
from alignflow.models.reference import compute_reference
from alignflow.models.reward_model import load_reward_model
from alignflow.models.trainers import offline as align_trainer
from alignflow.models.trainers import second_models
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.reward import train_reward
from alignflow.models.trainers.saved_state import SavedStates
from alignflow.models.trainers.sft import train_sft

COMMON = {
    "max_steps": 12,
    "batch_size": 14,
    "save_steps": 4,
    "max_length": 64,
    "lora": LoRAConfig(r=4, lora_dropout=0.1),
}
SFT = SFTConfig(learning_rate=2e-2, **COMMON)
REWARD = RewardConfig(learning_rate=1e-2, check_rows=4, **COMMON)
DPO = AlignConfig(learning_rate=1e-2, options={"beta": 0.1}, **COMMON)
BODIES = {
    "sft": lambda run, base, demonstrations, preferences: train_sft(
        SFT, base=base, demonstrations=demonstrations, run=run
    ),
    "reward": lambda run, base, demonstrations, preferences: train_reward(
        REWARD, base=base, preferences=preferences, run=run
    ),
    "align": lambda run, base, demonstrations, preferences: train_offline(
        DPO, policy=base, reference=None, preferences=preferences, run=run
    ),
}


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


@pytest.fixture
def sft_adapter(tiny_checkpoint, demonstrations, new_run):
    """What SFT with an adapter made."""
    run = new_run("sft")
    train_sft(SFT, base=tiny_checkpoint, demonstrations=demonstrations, run=run)
    return run.out


@pytest.mark.parametrize("stage", list(BODIES))
@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_a_killed_training_of_an_adapter_goes_on_to_the_same_bytes(
    stage, engine, new_run, tiny_checkpoint, demonstrations, preferences, monkeypatch
):
    arguments = (tiny_checkpoint, demonstrations, preferences)
    BODIES[stage](new_run("whole", engine=engine), *arguments)
    saved = SavedStates.save

    def save_then_die(self, step, *arguments):
        saved(self, step, *arguments)
        raise Killed

    monkeypatch.setattr(SavedStates, "save", save_then_die)
    with pytest.raises(Killed):
        BODIES[stage](new_run("killed", engine=engine), *arguments)
    monkeypatch.undo()
    torch.rand(3)  # the dropout must not depend on what the process drew before
    BODIES[stage](new_run("killed", engine=engine), *arguments)
    assert digests(new_run("whole").out) == digests(new_run("killed").out)


def test_an_adapter_learns_the_demonstrations(sft_adapter, tiny_checkpoint, demonstrations, new_run):
    config = SFTConfig(learning_rate=1e-9, max_steps=1, batch_size=14, max_length=64)
    before, after = (
        train_sft(config, base=base, demonstrations=demonstrations, run=new_run(name))["eval_loss"]
        for name, base in (("before", tiny_checkpoint), ("after", sft_adapter))
    )
    assert after < before - 0.15
    assert not (sft_adapter / "model.safetensors").exists() and load_file(sft_adapter / "adapter_model.safetensors")


def test_a_reward_model_with_an_adapter_learns_the_preference(new_run, tiny_checkpoint, preferences):
    run = new_run()
    assert BODIES["reward"](run, tiny_checkpoint, None, preferences)["eval_accuracy"] == 1.0
    better, worse = load_reward_model(run.out, Runtime()).score(
        [(user("the cat"), "cat hill", True), (user("the cat"), "dog hill", True)]
    )
    assert better > worse


@pytest.mark.parametrize("base", ["checkpoint", "adapter"])
@pytest.mark.parametrize("reference", ["artifact", "itself"])
def test_dpo_starts_from_ln_2_and_switched_off_it_is_the_sft_model(
    base, reference, new_run, tiny_checkpoint, sft_adapter, preferences, monkeypatch
):
    """An SFT adapter is merged first, and the new one stands on top of it."""
    policy, sums = tiny_checkpoint if base == "checkpoint" else sft_adapter, None
    if reference == "artifact":
        sums = new_run("reference").out
        compute_reference(
            ReferenceConfig(max_length=64), checkpoint=policy, preferences=preferences, run=new_run("reference")
        )
    started, switched = [], []
    first, off = align_trainer.check_start, Adapter.off
    monkeypatch.setattr(
        align_trainer, "check_start", lambda *a: started.append(first(*a))
    )  # raises where log-ratios are not 0
    monkeypatch.setattr(Adapter, "off", lambda self: switched.append(1) or off(self))
    loaded = []
    for module, name in ((align_trainer, "load_learner"), (second_models, "load_frozen")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, *a, real=real, **k: loaded.append(path) or real(path, *a, **k))
    run = new_run("align")
    metrics = train_offline(DPO, policy=policy, reference=sums, preferences=preferences, run=run)
    assert len(started) == 1 and len(switched) == (reference == "itself")
    assert loaded == [policy], "no second copy"
    assert metrics["eval_rewards/accuracies"] == 1.0 and metrics["eval_loss"] < 0.95 * math.log(2)
    assert load_policy(run.out, Runtime()).model.config.vocab_size


def test_a_reference_that_is_not_the_start_is_refused_where_it_says_it_is(
    new_run, tiny_checkpoint, preferences, monkeypatch
):
    true_scores = align_trainer.own_scores
    monkeypatch.setattr(
        align_trainer,
        "own_scores",
        lambda *a: {side: replace(found, sums=found.sums - 2.0) for side, found in true_scores(*a).items()},
    )
    with pytest.raises(TrainingError, match="log-ratios are 0.59"):
        train_offline(DPO, policy=tiny_checkpoint, reference=None, preferences=preferences, run=new_run())


def test_the_log_probabilities_of_another_model_are_a_reference_too(new_run, tiny_checkpoint, sft_adapter, preferences):
    compute_reference(
        ReferenceConfig(max_length=64), checkpoint=sft_adapter, preferences=preferences, run=new_run("reference")
    )
    short = DPO.model_copy(update={"max_steps": 1})
    metrics = train_offline(
        short, policy=tiny_checkpoint, reference=new_run("reference").out, preferences=preferences, run=new_run()
    )
    assert abs(metrics["loss"] - math.log(2)) > 1e-3
