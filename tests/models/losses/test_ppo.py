"""PPO's losses: both clips by hand, the gradient of REINFORCE at ratio 1, and nothing from masked places. Tolerance 1e-12 in fp64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.configs.online import OnlineOptions
from alignflow.models.losses.ppo import (
    KL_ESTIMATORS,
    PolicyBatch,
    clip,
    clipped_policy_loss,
    clipped_value_loss,
    token_weights,
    total_loss,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=tolerance)


def of_ratios(ratios, advantages, mask=None):
    ratios = tensor(*ratios)
    return PolicyBatch(
        ratios.log() - 1.0,
        torch.full_like(ratios, -1.0),
        tensor(*advantages),
        torch.ones(len(ratios)) if mask is None else mask,
        torch.arange(len(ratios)),
    )


def test_the_policy_clip_by_hand():
    """-A r against -A clip(r): up to the clip a gain counts, beyond it no more; a loss counts always."""
    found = clipped_policy_loss(of_ratios([1.5, 0.5, 1.0, 0.5, 1.5], [1, 1, 1, -1, -1]), 0.2, 0.2)
    close(found.loss, [-1.2, -0.5, -1.0, 0.8, 1.5])
    close(found.metrics["clipfrac"], [1.0, 0.0, 0.0, 1.0, 0.0])
    close(found.metrics["ratio"], [1.5, 0.5, 1.0, 0.5, 1.5])
    close(
        found.metrics["approxkl"],
        [math.log(1.5) ** 2 / 2, math.log(2) ** 2 / 2, 0, math.log(2) ** 2 / 2, math.log(1.5) ** 2 / 2],
    )
    close(found.metrics["approxkl_k1"], [-math.log(1.5), math.log(2), 0, math.log(2), -math.log(1.5)])


def test_a_wider_upper_clip_and_the_dual_clip():
    close(clipped_policy_loss(of_ratios([1.5, 0.5], [1, 1]), 0.2, 0.28).loss, [-1.28, -0.5])
    close(clipped_policy_loss(of_ratios([9.0, 9.0], [-1, 1]), 0.2, 0.2, dual_clip=3.0).loss, [3.0, -1.2])
    close(clip(of_ratios([1.5], [1]), OnlineOptions(cliprange=0.1)).loss, [-1.1])
    close(clip(of_ratios([1.5], [1]), OnlineOptions(cliprange=0.1, cliprange_high=0.3)).loss, [-1.3])


def test_the_value_clip_by_hand():
    """Old 0, clip 0.2, return 1: a value that ran ahead to 0.9 is held to the clipped one's error; one that moved 0.1 is its own."""
    found = clipped_value_loss(tensor(0.9, 0.1, -0.5), tensor(0, 0, 0), tensor(1, 1, 1), torch.ones(3), 0.2)
    close(found.loss, [0.8**2 / 2, 0.9**2 / 2, 1.5**2 / 2])
    close(found.metrics["clipfrac"], [1.0, 0.0, 0.0])


def test_all_terms_add_up():
    assert total_loss(0.3, 2.0, 1.1, 4.0, vf_coef=0.1, entropy_coefficient=0.01, ptx_coefficient=0.5) == pytest.approx(
        0.3 + 0.2 - 0.011 + 2.0
    )
    assert total_loss(0.3) == 0.3


def test_at_ratio_1_the_gradient_is_that_of_reinforce_with_a_baseline():
    """One epoch of one batch: d/d logp of mean(loss) is -A / tokens, that of -mean(A logp)."""
    logps, advantages = torch.randn(7, dtype=torch.float64, requires_grad=True), torch.randn(7, dtype=torch.float64)
    batch = PolicyBatch(logps, logps.detach().clone(), advantages, torch.ones(7))
    clipped_policy_loss(batch, 0.2, 0.2).loss.mean().backward()
    found = logps.grad.clone()
    logps.grad = None
    (-(advantages * logps).mean()).backward()
    close(found, logps.grad)


WILD = st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30, -999.0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), wild=st.lists(WILD, min_size=3, max_size=3))
def test_masked_places_give_no_loss_and_no_gradient(seed, wild):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, generator=generator) < 0.5
    values[:, ~mask] = torch.tensor(wild, dtype=torch.float64)[:, None]
    first = values[0].clone().requires_grad_()
    for found in (
        clipped_policy_loss(PolicyBatch(first, values[1], values[2], mask), 0.2, 0.2),
        clipped_value_loss(first, values[1], values[2], mask, 0.2),
    ):
        assert found.loss.isfinite().all() and not found.loss[~mask].any()
        (gradient,) = torch.autograd.grad(found.loss.sum(), first)
        assert gradient.isfinite().all() and not gradient[~mask].any()


def test_token_and_sequence_means():
    """Rows of 1 and 3 tokens with losses 4 and 1, 2, 3: over tokens 10 / 4, over rows (4 + 2) / 2."""
    loss, rows, mask = tensor(4, 1, 2, 3), torch.tensor([0, 1, 1, 1]), torch.ones(4, dtype=torch.bool)
    for aggregate, mean in (("token", 2.5), ("sequence", 3.0)):
        weights = token_weights(mask, rows, 2, aggregate, torch.float64)
        assert float((loss * weights).sum() / weights.sum()) == pytest.approx(mean, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_kl_estimators(seed):
    """k3 is never negative; over p's own distribution k1 and k3 have KL(p, q) as their mean."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    kl = (p.exp() * (p - q)).sum()
    for name in ("k1", "k3"):
        close((p.exp() * KL_ESTIMATORS[name](p - q)).sum(), kl)
    assert (KL_ESTIMATORS["k3"](p - q) >= 0).all() and (KL_ESTIMATORS["k2"](p - q) >= 0).all()


@pytest.mark.parametrize("name", list(catalogue.POLICY_LOSSES))
def test_every_policy_loss_answers_per_token(name):
    found = catalogue.POLICY_LOSSES[name].resolve()(
        of_ratios([1.5, 0.5], [1, -1], torch.tensor([True, False])), OnlineOptions()
    )
    assert found.loss.shape == (2,) and found.loss[1] == 0
    assert {"clipfrac", "ratio", "approxkl"} <= found.metrics.keys()


@pytest.mark.parametrize(("advantage", "dual_clip"), [(1.0, None), (0.0, None), (1.0, 3.0), (-1.0, 3.0)])
def test_a_ratio_beyond_fp32_gives_no_gradient_where_a_clip_holds_the_loss(advantage, dual_clip):
    logps = torch.zeros(1, requires_grad=True)
    batch = PolicyBatch(logps, torch.full((1,), -95.0), torch.full((1,), advantage), torch.ones(1))
    loss = clipped_policy_loss(batch, 0.2, 0.2, dual_clip).loss
    loss.sum().backward()
    close(loss, [-1.2 * advantage if advantage >= 0 else 3.0], 1e-6)
    close(logps.grad, [0.0])
