"""Gradient checkpointing changes memory and time, never a gradient."""

import pytest
import torch
from tiny_model import make_reward_model
from torch.utils import checkpoint as torch_checkpoint

from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.engines.base import ENGINES, make_engine
from alignflow.models.policy import load_policy
from alignflow.models.recompute import recompute_layers

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1)), EncodedRow((4,), (7, 8, 9, 10, 11, 1))]


def gradients(policy):
    policy.model.zero_grad(set_to_none=True)
    policy.token_statistics(ROWS).logps.sum().backward()
    return {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_equal(precision, tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime(precision=precision), trainable=True)
    kept = gradients(policy)
    recompute_layers(policy.model)
    recomputed = gradients(policy)
    assert all(torch.equal(value, recomputed[name]) for name, value in kept.items())


def test_each_layer_keeps_its_input_alone(tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    sizes = []
    for _ in range(2):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor,  # noqa: B023
            lambda tensor: tensor,
        ):
            policy.token_statistics(ROWS)
        sizes.append(sum(kept))
        recompute_layers(policy.model)
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("engine", list(ENGINES))
def test_the_config_asks_for_it_whatever_the_engine_and_the_model(engine, tiny_checkpoint, monkeypatch):
    called = []
    monkeypatch.setattr(
        "alignflow.models.recompute.checkpoint",
        lambda *a, **k: called.append(1) or torch_checkpoint.checkpoint(*a, **k),
    )
    reward = make_reward_model(tiny_checkpoint)
    made = make_engine(reward.model, SFTConfig(gradient_checkpointing=True), Runtime(engine=engine))
    made.backward(reward.scores_packed(ROWS).sum())
    assert len(called) == 2 and made.step(1e-3) > 0
    made.close()
    with torch.no_grad():
        reward.scores_packed(ROWS)
    assert len(called) == 2, "nothing is recomputed where there is no backward pass"


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ModelError, match="no layers"):
        recompute_layers(torch.nn.Linear(2, 2))
