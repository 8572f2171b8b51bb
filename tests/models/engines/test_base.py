"""The optimizer of all engines."""

import pytest
import torch

from alignflow.data.configs.training import SFTConfig
from alignflow.models.engines.base import BETAS, EPSILON, make_optimizer


def test_decay_is_for_matrices_alone_and_frozen_parameters_are_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2))
    model[2].requires_grad_(False)
    matrices, vectors = make_optimizer(model, SFTConfig(weight_decay=0.1, learning_rate=0.01)).param_groups
    assert matrices["weight_decay"] == 0.1 and [tuple(value.shape) for value in matrices["params"]] == [(2, 3)]
    assert vectors["weight_decay"] == 0.0 and len(vectors["params"]) == 3
    assert (matrices["lr"], matrices["betas"], matrices["eps"]) == (0.01, BETAS, EPSILON)


def test_a_step_is_that_of_adamw():
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    model = torch.nn.Module()
    model.weight = weight
    optimizer = make_optimizer(model, SFTConfig(weight_decay=0.5, learning_rate=0.1))
    weight.grad = torch.tensor([[4.0, -4.0]])
    optimizer.step()
    assert weight.flatten().tolist() == pytest.approx([1.0 * 0.95 - 0.1, -2.0 * 0.95 + 0.1], abs=1e-6)
