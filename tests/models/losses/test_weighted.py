"""DPO with weights or means, worked by hand: rho(w) = 1, rho(l) = -2, 2 tokens each."""

import math

import pytest
import torch

from alignflow.data import catalogue
from alignflow.data.configs.pairwise import WPOOptions
from alignflow.models.losses.base import pairs_of_tokens
from alignflow.models.losses.weighted import wpo_weighted, wpo_weights


def loss(name, policy, reference=None, **options):
    """The loss of one pair, from log-probabilities per token of the chosen and the rejected answer, in float64."""
    rows = [torch.tensor([side], dtype=torch.float64, requires_grad=True) for side in policy]
    masks = tuple(torch.ones_like(side) for side in rows)
    others = None if reference is None else tuple(torch.tensor([side], dtype=torch.float64) for side in reference)
    pairs = pairs_of_tokens(tuple(rows), masks, others)
    row = catalogue.METHODS[name]
    return row.resolve()(pairs, row.options(**options)), rows


POLICY, REFERENCE = ([-1.0, -1.0], [-3.0, -2.0]), ([-1.5, -1.5], [-2.0, -1.0])
DPO = math.log1p(math.exp(-1.5))


def pairs():
    sides = [torch.tensor([side], dtype=torch.float64, requires_grad=True) for side in POLICY]
    reference = tuple(torch.tensor([side], dtype=torch.float64) for side in REFERENCE)
    return pairs_of_tokens(tuple(sides), tuple(torch.ones_like(side) for side in sides), reference)


def test_the_length_normalised_loss_takes_means():
    found, _ = loss("dpo_length_normalised", POLICY, REFERENCE, beta=1.0)
    assert float(found.loss) == pytest.approx(math.log1p(math.exp(-1.5)))


@pytest.mark.parametrize(("weights", "capped"), [((0.5, 0.4), 0.2), ((3.0, 2.0), 1.0)])
def test_a_weight_multiplies_the_loss_up_to_1_and_gets_no_gradient(weights, capped):
    given = [torch.tensor([weight], dtype=torch.float64, requires_grad=True) for weight in weights]
    found = wpo_weighted(pairs(), *given, WPOOptions(beta=0.5))
    found.loss.sum().backward()
    assert float(found.loss) == pytest.approx(capped * DPO) and given[0].grad is None


def test_a_typical_sample_weighs_1_and_an_unlikely_one_less():
    answers = pairs().chosen
    answers.statistics["squared_probability"] = answers.statistics["logps"].detach().exp()
    assert wpo_weights(answers).tolist() == pytest.approx([1.0])
    answers.statistics["squared_probability"] = torch.ones_like(answers.statistics["logps"]).detach()
    assert wpo_weights(answers).tolist() == pytest.approx([math.exp(-1)]), "the mean of log p over 2 tokens is -1"
