"""Losses of reward models against hand-worked numbers, and their laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.training import RewardConfig
from alignflow.models.losses.reward import bradley_terry, reward_binary, reward_pointwise, reward_ranking

SCORES = st.floats(-20, 20, allow_nan=False, width=32)
NAN = float("nan")
WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-3, 1))


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
    assert float(loss(first, second).loss) == pytest.approx(
        float(loss(first + constant, second + constant).loss), abs=1e-3
    )


def ranking(scores, labels, group, dtype=torch.float64, **config):
    scores = torch.as_tensor(scores, dtype=dtype)
    return reward_ranking(
        scores,
        torch.tensor(labels, dtype=dtype),
        torch.tensor(group),
        RewardConfig(**{"l2_coefficient": 0.0, **config}),
    )


def softplus(value):
    return math.log1p(math.exp(value))


def test_the_ranking_loss_is_the_mean_over_a_prompts_strict_pairs():
    output = ranking([1.0, 3.0, 0.0, 2.0, 0.5], [2.0, 1.0, 1.0, 5.0, NAN], [8, 8, 8, 2, 2])
    assert output.loss.tolist() == pytest.approx([0.0, (softplus(2.0) + softplus(-1.0)) / 2])
    assert float(output.metrics["accuracy"][1]) == 0.5 and float(output.metrics["margin"][1]) == pytest.approx(-0.5)
    assert float(output.metrics["score/chosen"][1]) == 1 and float(output.metrics["score/rejected"][1]) == 3
    assert all(math.isnan(values[0]) for values in output.metrics.values())


@given(chosen=SCORES, rejected=SCORES, l2=WEIGHTS, center=WEIGHTS)
def test_for_two_answers_the_ranking_loss_is_bradley_terry(chosen, rejected, l2, center):
    config = {"l2_coefficient": l2, "center_rewards_coefficient": center}
    pair, listed = (
        loss(chosen, rejected, **config),
        ranking([rejected, chosen], [0.0, 1.0], [0, 0], torch.float32, **config),
    )
    torch.testing.assert_close(listed.loss, pair.loss, rtol=1e-5, atol=1e-5)
    assert all(torch.allclose(listed.metrics[name], pair.metrics[name]) for name in pair.metrics)


def test_each_prompt_weighs_the_same_whatever_the_number_of_its_answers():
    scores = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    output = ranking(scores, [0.0, 1.0, 0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1, 1, 1])
    assert output.loss.tolist() == pytest.approx([math.log(2)] * 2)
    ones = ranking(
        scores.detach() + 1,
        [0.0, 1.0, 0.0, 1.0, 2.0, 3.0],
        [0, 0, 1, 1, 1, 1],
        l2_coefficient=0.5,
        center_rewards_coefficient=0.25,
    )
    assert ones.loss.tolist() == pytest.approx([math.log(2) + 0.5 + 1] * 2)
    output.loss.sum().backward()
    assert scores.grad.tolist() == pytest.approx([0.5, -0.5, 0.25, 0.25 / 3, -0.25 / 3, -0.25])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_600_apart_and_an_answer_without_label_have_finite_losses_and_gradients(dtype):
    scores = torch.tensor([600.0, 0.0, -600.0, NAN], dtype=dtype, requires_grad=True)
    output = ranking(scores, [0.0, 1.0, 2.0, NAN], [0] * 4, dtype, l2_coefficient=0.001)
    output.loss.sum().backward()
    assert (
        float(output.loss) == pytest.approx(800 + 0.001 * 240000)
        and torch.isfinite(scores.grad).all()
        and scores.grad[3] == 0
    )


def test_regression_is_the_squared_error_and_its_gradient_twice_the_error():
    scores = torch.tensor([1.0, -2.0], requires_grad=True)
    output = reward_pointwise(scores, torch.tensor([0.5, 1.0], dtype=torch.float64))
    output.loss.sum().backward()
    assert output.loss.tolist() == [0.25, 9.0] and scores.grad.tolist() == [1.0, -6.0]
    assert output.metrics["error"].tolist() == [0.5, 3.0]
    assert reward_pointwise(scores, torch.tensor([NAN, 1.0])).loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("score", "label", "wanted", "accuracy"), [(2.0, 1.0, -2.0, 1.0), (2.0, 0.0, 2.0, 0.0), (0.0, 1.0, 0.0, 0.5)]
)
def test_a_binary_label_costs_its_log_odds(score, label, wanted, accuracy):
    output = reward_binary(torch.tensor([score]), torch.tensor([label]))
    assert float(output.loss) == pytest.approx(softplus(wanted)) and float(output.metrics["accuracy"]) == accuracy


def test_a_soft_binary_label_weighs_both_sides_and_600_is_finite():
    scores = torch.tensor([600.0, -600.0], requires_grad=True)
    output = reward_binary(scores, torch.tensor([0.25, 1.0]))
    output.loss.sum().backward()
    assert output.loss.tolist() == [450, 600] and scores.grad.tolist() == [0.75, -1]
