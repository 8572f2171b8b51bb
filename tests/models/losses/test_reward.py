"""The Bradley-Terry loss against hand-worked numbers, and its laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.training import RewardConfig
from alignflow.models.losses.reward import bradley_terry

SCORES = st.floats(-20, 20, allow_nan=False, width=32)
NAN = float("nan")


def loss(chosen, rejected, margin=NAN, soft_label=NAN, **config):
    values = [torch.tensor([value], dtype=torch.float32) for value in (chosen, rejected, margin, soft_label)]
    return bradley_terry(*values, RewardConfig(**{"l2_coefficient": 0.0, **config}))


@pytest.mark.parametrize(
    ("arguments", "config", "wanted"),
    [
        ((1.0, 0.0), {}, math.log1p(math.exp(-1))),
        ((1.0, 0.0, 0.4), {"use_margin": True}, math.log1p(math.exp(-0.6))),
        ((1.0, 0.0, 0.4), {}, math.log1p(math.exp(-1))),
        ((1.0, 0.0, NAN, 0.8), {}, 0.8 * math.log1p(math.exp(-1)) + 0.2 * math.log1p(math.exp(1))),
        ((1.0, 0.0, NAN, 0.8), {"use_soft_labels": False}, math.log1p(math.exp(-1))),
        ((2.0, 1.0), {"l2_coefficient": 0.1}, math.log1p(math.exp(-1)) + 0.1 * 2.5),
        ((2.0, 1.0), {"center_rewards_coefficient": 0.01}, math.log1p(math.exp(-1)) + 0.09),
    ],
)
def test_hand_worked_numbers(arguments, config, wanted):
    assert float(loss(*arguments, **config).loss) == pytest.approx(wanted, abs=1e-6)


@given(score=SCORES)
def test_equal_scores_cost_ln_2_and_are_half_right(score):
    found = loss(score, score)
    assert float(found.loss) == pytest.approx(math.log(2)) and float(found.metrics["accuracy"]) == 0.5


@given(first=SCORES, second=SCORES, constant=st.floats(-5, 5, width=32))
def test_a_constant_added_to_all_scores_changes_nothing_without_l2_and_centring(first, second, constant):
    assert float(loss(first, second).loss) == pytest.approx(float(loss(first + constant, second + constant).loss), abs=1e-3)
