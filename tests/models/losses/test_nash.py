"""The policy gradient of Nash learning: its gradient is what the paper says, and with tau 0 it is REINFORCE."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.online_preference import NashOptions
from alignflow.models.losses.base import answers_of_tokens
from alignflow.models.losses.nash import nash_policy_gradient

NUMBERS = st.floats(-5, 5, allow_nan=False)
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def gradient(logps, reference, preference, weights=None, **options):
    leaf = torch.tensor(logps, dtype=torch.float64).view(2, 3).requires_grad_()
    batch = answers_of_tokens(
        leaf, MASK, torch.tensor(reference, dtype=torch.float64).view(2, 3), score=torch.tensor(preference).double()
    )
    if weights is not None:
        batch = replace(batch, statistics={**batch.statistics, "importance_weights": weights[MASK.bool()]})
    found = nash_policy_gradient(batch, NashOptions(judge={"name": "llm"}, **options))
    found.loss.mean().backward()
    return leaf.grad, found


SIX = st.lists(NUMBERS, min_size=6, max_size=6)
TWO = st.lists(st.floats(0, 1), min_size=2, max_size=2)


@given(SIX, SIX, TWO)
def test_with_tau_0_it_is_reinforce_on_p_less_one_half(logps, reference, preference):
    for credit in ("sequence", "token"):
        found, _ = gradient(logps, reference, preference, beta=0, kl_credit=credit)
        wanted = -(torch.tensor(preference).double() - 0.5)[:, None] * MASK / 2
        assert torch.allclose(found, wanted)


@given(SIX, SIX, TWO)
def test_an_answers_log_ratio_weighs_all_of_its_tokens_or_each_its_own(logps, reference, preference):
    ratio = (torch.tensor(logps).double() - torch.tensor(reference).double()).view(2, 3) * MASK
    advantage = (torch.tensor(preference).double() - 0.5)[:, None]
    for credit, kl in (("sequence", ratio.sum(1, keepdim=True)), ("token", ratio)):
        found, output = gradient(logps, reference, preference, beta=0.3, kl_credit=credit)
        assert torch.allclose(found, -(advantage - 0.3 * kl) * MASK / 2, atol=1e-6)
        assert torch.allclose(output.metrics["loss/kl"], ratio.sum(1), atol=1e-6)
        assert not any(values.requires_grad for values in output.metrics.values())


@given(SIX, SIX, TWO)
def test_where_another_engine_drew_the_answers_the_gradient_of_each_token_is_weighed_and_what_is_shown_is_not(
    logps, reference, preference
):
    weights = torch.tensor([[0.5, 2.0, 1.0], [3.0, 0.0, 9.0]], dtype=torch.float64)
    for credit in ("sequence", "token"):
        plain, shown = gradient(logps, reference, preference, beta=0.3, kl_credit=credit)
        found, output = gradient(logps, reference, preference, weights, beta=0.3, kl_credit=credit)
        assert torch.allclose(found, plain * weights)
        assert all(torch.equal(values, shown.metrics[name]) for name, values in output.metrics.items())
