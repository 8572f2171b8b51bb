"""DPO against hand-worked numbers, and the laws that any implementation must keep."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.models.losses.base import pairs_of_tokens
from alignflow.models.losses.dpo import dpo

SUMS = st.floats(-200, 0, allow_nan=False, width=32)


def batch(chosen, rejected, reference_chosen, reference_rejected, soft_label=float("nan")):
    def one(value):
        return torch.tensor([[value]], dtype=torch.float32)

    mask = torch.ones(1, 1)
    reference = one(reference_chosen), one(reference_rejected)
    return pairs_of_tokens((one(chosen), one(rejected)), (mask, mask), reference, torch.tensor([soft_label]))


def loss(*sums, soft_label=float("nan"), **config):
    return dpo(batch(*sums, soft_label=soft_label), DPOOptions(**config))


@pytest.mark.parametrize(
    ("sums", "config", "wanted"),
    [
        ((-10, -12, -11, -11), {}, -math.log(1 / (1 + math.exp(-0.2)))),  # log-ratios 1 and -1: x = 0.1 * 2
        ((-10, -12, -11, -11), {"beta": 0.5}, -math.log(1 / (1 + math.exp(-1.0)))),
        (
            (-10, -12, -11, -11),
            {"label_smoothing": 0.1},
            0.9 * math.log1p(math.exp(-0.2)) + 0.1 * math.log1p(math.exp(0.2)),
        ),
        ((-12, -10, -11, -11), {}, math.log1p(math.exp(0.2))),
    ],
)
def test_hand_worked_numbers(sums, config, wanted):
    assert float(loss(*sums, **config).loss) == pytest.approx(wanted, abs=1e-6)


def test_soft_labels_weigh_both_orders_where_they_are_given_and_used():
    wanted = 0.7 * math.log1p(math.exp(-0.2)) + 0.3 * math.log1p(math.exp(0.2))
    assert float(loss(-10, -12, -11, -11, soft_label=0.7, use_soft_labels=True).loss) == pytest.approx(wanted, abs=1e-6)
    hard = float(loss(-10, -12, -11, -11).loss)
    assert float(loss(-10, -12, -11, -11, soft_label=0.7).loss) == hard
    assert float(loss(-10, -12, -11, -11, use_soft_labels=True).loss) == hard


@settings(max_examples=50)
@given(chosen=SUMS, rejected=SUMS, smoothing=st.floats(1e-9, 0.49) | st.just(0.0))
def test_at_the_reference_the_loss_is_ln_2(chosen, rejected, smoothing):
    assert float(loss(chosen, rejected, chosen, rejected, label_smoothing=smoothing).loss) == pytest.approx(
        math.log(2), abs=1e-6
    )


@settings(max_examples=50)
@given(a=SUMS, b=SUMS, c=SUMS, d=SUMS)
def test_swapping_the_sides_mirrors_the_rewards(a, b, c, d):
    first, second = loss(a, b, c, d).metrics, loss(b, a, d, c).metrics
    assert float(first["rewards/margins"]) == pytest.approx(-float(second["rewards/margins"]), abs=1e-4)
    assert float(first["rewards/accuracies"]) + float(second["rewards/accuracies"]) == (
        1 if float(first["rewards/margins"]) else 0
    )


def test_a_tie_is_not_accurate():
    assert float(loss(-10, -12, -10, -12).metrics["rewards/accuracies"]) == 0


def test_the_gradient_raises_chosen_and_lowers_rejected():
    given_batch = batch(-10, -12, -11, -11)
    chosen, rejected = given_batch.chosen.logps.requires_grad_(), given_batch.rejected.logps.requires_grad_()
    dpo(given_batch, DPOOptions()).loss.sum().backward()
    assert float(chosen.grad) == pytest.approx(-float(rejected.grad)) and chosen.grad < 0


def test_a_hopeless_pair_has_a_finite_loss():
    assert torch.isfinite(loss(-10000, -1, -1, -10000, beta=1.0).loss).all()
