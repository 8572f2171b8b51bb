"""Sparse SFT: an L1 penalty on the adapter's factors, once in each step however the step is cut."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

pytest.importorskip("peft")

from alignflow.data.configs.training import SFTConfig
from alignflow.data.run import Runtime
from alignflow.models.adapters import add_adapter
from alignflow.models.policy import load_policy
from alignflow.models.trainers.sft import train_sft

FIELDS = {"learning_rate": 5e-3, "batch_size": 8, "max_length": 64, "lora": {"r": 4}, "lr_scheduler_type": "constant"}


def config(**fields):
    return SFTConfig(**{**FIELDS, **fields})


def factors(run):
    return load_file(run.out / "adapter_model.safetensors")


@pytest.mark.parametrize("loss_reduction", ["token_mean", "sequence_mean"])
def test_the_penalty_is_its_weight_times_the_l1_norm_of_all_factors(
    loss_reduction, tiny_checkpoint, demonstrations, new_run
):
    wanted = config(max_steps=1, l1_coefficient=0.01, loss_reduction=loss_reduction)
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    add_adapter(policy, wanted, tiny_checkpoint)
    norm = sum(
        float(parameter.detach().abs().sum()) for parameter in policy.model.parameters() if parameter.requires_grad
    )
    metrics = train_sft(wanted, base=tiny_checkpoint, demonstrations=demonstrations, run=new_run())
    assert norm > 10 and metrics["l1_penalty"] == pytest.approx(0.01 * norm, rel=1e-5)
    assert metrics["loss"] == pytest.approx(metrics["nll_loss"] + metrics["l1_penalty"], rel=1e-5)
    plain = config(max_steps=1, loss_reduction=loss_reduction)
    without = train_sft(plain, base=tiny_checkpoint, demonstrations=demonstrations, run=new_run("plain"))
    assert metrics["nll_loss"] == pytest.approx(without["loss"], rel=1e-5) and "l1_penalty" not in without


@pytest.mark.parametrize("loss_reduction", ["token_mean", "sequence_mean"])
def test_the_update_does_not_depend_on_how_a_step_is_cut(loss_reduction, tiny_checkpoint, demonstrations, new_run):
    wanted = config(max_steps=2, l1_coefficient=0.01, loss_reduction=loss_reduction)
    runs = [new_run(name, micro_batch_tokens=tokens) for name, tokens in (("whole", 100_000), ("cut", 64))]
    whole, cut = (train_sft(wanted, base=tiny_checkpoint, demonstrations=demonstrations, run=run) for run in runs)
    assert cut == pytest.approx(whole, rel=1e-3)
    for name, factor in factors(runs[0]).items():
        torch.testing.assert_close(factors(runs[1])[name], factor, atol=1e-4, rtol=1e-3)


def test_the_update_does_not_depend_on_the_engine(tiny_checkpoint, demonstrations, new_run):
    pytest.importorskip("deepspeed")
    wanted = config(max_steps=2, l1_coefficient=0.01)
    runs = [
        new_run(name, **runtime)
        for name, runtime in (("torch", {}), ("shared", {"engine": "deepspeed", "zero_stage": 2}))
    ]
    for run in runs:
        train_sft(wanted, base=tiny_checkpoint, demonstrations=demonstrations, run=run)
    for name, factor in factors(runs[0]).items():
        torch.testing.assert_close(factors(runs[1])[name], factor, atol=1e-4, rtol=1e-3)


def test_it_draws_the_factors_to_zero(tiny_checkpoint, demonstrations, new_run):
    norms = {}
    for lam in (0.0, 0.01):
        run = new_run(f"lam{lam}")
        train_sft(
            config(max_steps=12, l1_coefficient=lam), base=tiny_checkpoint, demonstrations=demonstrations, run=run
        )
        norms[lam] = sum(float(factor.abs().sum()) for factor in factors(run).values())
    assert norms[0.01] < 0.8 * norms[0.0]


def test_without_an_adapter_there_is_nothing_to_make_sparse():
    with pytest.raises(ValidationError, match="l1_coefficient is a penalty on the weights of an adapter: set lora"):
        SFTConfig(l1_coefficient=1e-3)
