"""Losses with an anchor, worked by hand: rho(w) = 1, rho(l) = -2, beta = 0.5."""

import math

import pytest
import torch

from alignflow.data import catalogue
from alignflow.models.losses.base import pairs_of_tokens


def loss(name, policy, reference=None, **options):
    """The loss of one pair, from log-probabilities per token of the chosen and the rejected answer, in float64."""
    rows = [torch.tensor([side], dtype=torch.float64, requires_grad=True) for side in policy]
    masks = tuple(torch.ones_like(side) for side in rows)
    others = None if reference is None else tuple(torch.tensor([side], dtype=torch.float64) for side in reference)
    pairs = pairs_of_tokens(tuple(rows), masks, others)
    row = catalogue.METHODS[name]
    return row.resolve()(pairs, row.options(**options)), rows


POLICY, REFERENCE = ([-1.0, -1.0], [-3.0, -2.0]), ([-1.5, -1.5], [-2.0, -1.0])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("apo_zero", {}, sigmoid(-1) - sigmoid(0.5)),
        ("apo_down", {}, sigmoid(0.5) - sigmoid(1.5)),
        ("nca", {}, -math.log(sigmoid(0.5)) - math.log(sigmoid(-0.5)) / 2 - math.log(sigmoid(1)) / 2),
        ("dpop", {"dpop_lambda": 5.0}, -math.log(sigmoid(1.5))),
        ("rdpo", {"alpha": 0.1}, -math.log(sigmoid(1.5))),
    ],
)
def test_values_by_hand(name, options, wanted):
    found, _ = loss(name, POLICY, REFERENCE, beta=0.5, **options)
    assert float(found.loss) == pytest.approx(wanted, rel=1e-12)


def test_dpop_counts_the_nats_that_the_chosen_answer_lost():
    found, _ = loss("dpop", ([-2.5, -1.5], [-3.0, -2.0]), REFERENCE, beta=0.5, dpop_lambda=2.0)
    assert float(found.loss) == pytest.approx(-math.log(sigmoid(0.5 * (-1 + 2 - 2 * 1))), rel=1e-12)


def test_apo_down_lowers_the_chosen_answer_where_apo_zero_raises_it():
    for name, sign in (("apo_zero", -1), ("apo_down", 1)):
        found, (chosen, rejected) = loss(name, POLICY, REFERENCE, beta=0.5)
        found.loss.sum().backward()
        assert (sign * chosen.grad > 0).all() and (rejected.grad > 0).all(), "the rejected answer falls in both"
