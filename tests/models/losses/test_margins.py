"""Functions of the margin, worked by hand: rho(w) - rho(l) = 3, beta = 0.5, so that z = 1.5."""

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
Z, LOSE = 1.5, 1 / (1 + math.exp(1.5))


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("logistic", math.log1p(math.exp(-Z))),
        ("hinge", 0.0),
        ("squared", 0.25),
        ("exponential", math.exp(-Z)),
        ("truncated_squared", 0.0),
        ("savage", LOSE**2),
    ],
)
def test_forms_of_gpo(form, wanted):
    assert float(loss("gpo", POLICY, REFERENCE, beta=0.5, form=form)[0].loss) == pytest.approx(
        wanted, rel=1e-12, abs=1e-15
    )


def test_ipo_over_sums_and_over_means():
    sums, _ = loss("ipo", POLICY, REFERENCE, beta=0.5, length_normalise=False)
    means, _ = loss("ipo", POLICY, REFERENCE, beta=0.5)
    assert float(sums.loss) == pytest.approx((3 - 1) ** 2) and float(means.loss) == pytest.approx((1.5 - 1) ** 2)


def test_exo_is_the_divergence_to_the_smoothed_label():
    e, win = 0.1, 1 - LOSE
    wanted = win * math.log(win / (1 - e)) + LOSE * math.log(LOSE / e)
    assert float(loss("exo", POLICY, REFERENCE, beta=0.5, label_smoothing=e)[0].loss) == pytest.approx(
        wanted, rel=1e-12
    )


@pytest.mark.parametrize(
    ("kind", "slope"),
    [
        ("reverse_kl", lambda u: math.log(u)),
        ("forward_kl", lambda u: -1 / u),
        ("js_divergence", lambda u: math.log(2 * u / (1 + u))),
        ("alpha_divergence", lambda u: (u**-0.5 - 1) / -0.5),
    ],
)
def test_f_dpo_takes_the_slope_of_its_divergence(kind, slope):
    z = 0.5 * (slope(math.exp(1)) - slope(math.exp(-2)))
    found, _ = loss("f_dpo", POLICY, REFERENCE, beta=0.5, f_divergence_type=kind)
    assert float(found.loss) == pytest.approx(math.log1p(math.exp(-z)), rel=1e-10)
