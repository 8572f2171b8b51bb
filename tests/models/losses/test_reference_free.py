"""Losses without a reference, worked by hand: sums -2 and -5 over 2 tokens each."""

import math

import pytest
import torch

from alignflow.data import catalogue
from alignflow.models.losses.base import pairs_of_tokens
from alignflow.models.losses.reference_free import log1mexp


def loss(name, policy, reference=None, **options):
    """The loss of one pair, from log-probabilities per token of the chosen and the rejected answer, in float64."""
    rows = [torch.tensor([side], dtype=torch.float64, requires_grad=True) for side in policy]
    masks = tuple(torch.ones_like(side) for side in rows)
    others = None if reference is None else tuple(torch.tensor([side], dtype=torch.float64) for side in reference)
    pairs = pairs_of_tokens(tuple(rows), masks, others)
    row = catalogue.METHODS[name]
    return row.resolve()(pairs, row.options(**options)), rows


POLICY = [-1.0, -1.0], [-3.0, -2.0]


def softplus(x):
    return math.log1p(math.exp(x))


def test_simpo_compares_means():
    found, _ = loss("simpo", POLICY, beta=2.0, gamma=0.5)
    assert float(found.loss) == pytest.approx(softplus(-(2.0 * 1.5 - 0.5)), rel=1e-12)


def test_slic_holds_a_margin_of_sums_and_the_chosen_answer():
    found, _ = loss("slic_hf", POLICY, delta=4.0, reg_coef=0.5)
    assert float(found.loss) == pytest.approx((4 - 3) + 0.5 * 2)


def test_cpo_leaves_its_nll_to_the_step_or_adds_it_per_answer():
    by_step, _ = loss("cpo", POLICY, beta=0.5, cpo_alpha=2.0)
    assert float(by_step.loss) == pytest.approx(softplus(-1.5)) and float(by_step.token_loss) == pytest.approx(4.0)
    whole, _ = loss("cpo", POLICY, beta=0.5, cpo_alpha=2.0, nll_reduction="sequence")
    assert float(whole.loss) == pytest.approx(softplus(-1.5) + 4.0) and whole.token_loss is None


def test_orpo_compares_odds_of_means():
    odds = [mean - math.log(1 - math.exp(mean)) for mean in (-1.0, -2.5)]
    found, _ = loss("orpo", POLICY, beta=0.5)
    assert float(found.loss) == pytest.approx(0.5 * softplus(-(odds[0] - odds[1])), rel=1e-12)
    assert float(found.token_loss) == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_is_exact_on_both_sides_and_finite_at_0(dtype):
    places = torch.tensor([-50.0, -1.0, -0.5, -1e-6, 0.0], dtype=dtype, requires_grad=True)
    found = log1mexp(places)
    wanted = [math.log(-math.expm1(float(place))) for place in places[:4].double()]
    assert found[:4].double().tolist() == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    found.sum().backward()
    assert found.isfinite().all() and places.grad.isfinite().all() and float(places.grad[-1]) == 0.0
