"""beta-DPO: the same step for any cut of it, pairs drawn by their gaps, and the loss that takes both."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.configs.token_level import BetaDPOOptions
from alignflow.models.losses.base import PairBatch, pairs_of_tokens
from alignflow.models.losses.beta_dpo import (
    BetaStep,
    GapAverages,
    beta_dpo,
    draw_pairs,
    ema_update,
    filter_log_weights,
    gaps_of,
    step_of_gaps,
)
from alignflow.models.losses.dpo import dpo

ALL = BetaDPOOptions(alpha=0.0, keep_fraction=1.0)
START = GapAverages()


def pairs(count=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    rows = [-torch.rand(count, 4, generator=generator, dtype=torch.float64).to(dtype) * 2 for _ in range(4)]
    leaves = rows[0].requires_grad_(), rows[1].requires_grad_()
    return leaves, pairs_of_tokens(leaves, (torch.ones(count, 4), torch.ones(count, 4)), (rows[2], rows[3]))


def with_step(batch, step: BetaStep):
    """The batch as the trainer hands it to the loss."""
    return PairBatch(
        *[replace(side, step={"beta": step.beta}, weight=step.weight) for side in (batch.chosen, batch.rejected)]
    )


def test_with_alpha_0_and_all_pairs_it_is_dpo():
    _, batch = pairs()
    found = beta_dpo(with_step(batch, step_of_gaps(gaps_of(batch, ALL), START, ALL, 0)), ALL)
    torch.testing.assert_close(found.loss, dpo(batch, DPOOptions()).loss)
    assert found.metrics["beta"].tolist() == pytest.approx([0.1] * 6)


def test_the_value_worked_out_by_hand():
    """Gaps of 1 and 3 after averages of 0: M0 = 0.1 * 2, beta = 0.1 (1 + 0.6 (2 - 0.2))."""
    options = BetaDPOOptions(keep_fraction=1.0)
    step = step_of_gaps(torch.tensor([1.0, 3.0]), START, options, 0)
    assert float(step.beta) == pytest.approx(0.1 * (1 + 0.6 * 1.8)) and step.weight.tolist() == [1.0, 1.0]
    assert step.averages == GapAverages(pytest.approx(0.2), pytest.approx(0.1 * math.sqrt(2)))


def test_beta_and_weights_take_no_gradient_and_a_pair_that_is_left_out_gives_none():
    leaves, batch = pairs()
    options = BetaDPOOptions(keep_fraction=0.5)
    step = step_of_gaps(gaps_of(batch, options), START, options, 1)
    output = beta_dpo(with_step(batch, step), options)
    assert not step.beta.requires_grad and not step.weight.requires_grad
    gradient = torch.autograd.grad(output.loss.sum(), leaves[0])[0]
    left_out = step.weight == 0
    assert int(left_out.sum()) == 3 and (gradient[left_out] == 0).all() and (gradient[~left_out] != 0).all()
    frozen = -step.weight[:, None] * step.beta * torch.sigmoid(-step.beta * gaps_of(batch, options))[:, None]
    torch.testing.assert_close(gradient, frozen.expand_as(gradient))


def test_a_pair_that_is_left_out_may_have_a_loss_that_is_not_finite():
    leaves, batch = pairs(2)
    broken = replace(batch.chosen, logps=torch.stack([batch.chosen.logps[0], batch.chosen.logps[1] - math.inf]))
    step = BetaStep(torch.tensor(0.1), torch.tensor([2.0, 0.0]), START)
    loss = beta_dpo(with_step(PairBatch(broken, batch.rejected), step), ALL).loss
    assert float(loss[1]) == 0.0 and torch.autograd.grad(loss.sum(), leaves[1])[0].isfinite().all()


@settings(max_examples=50, deadline=None)
@given(
    gaps=st.lists(st.floats(-600, 600), min_size=1, max_size=40),
    keep=st.floats(0.01, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_weights_have_a_mean_of_1_and_the_wanted_number_is_kept(gaps, keep, seed):
    options = BetaDPOOptions(keep_fraction=keep)
    step = step_of_gaps(torch.tensor(gaps), START, options, seed)
    assert int((step.weight > 0).sum()) == max(1, int(len(gaps) * keep + 1e-9))
    assert float(step.weight.mean()) == pytest.approx(1.0) and float(step.beta) >= 1e-3 and step.beta.isfinite()
    assert all(map(math.isfinite, (step.averages.mean, step.averages.deviation)))


def test_the_same_seed_draws_the_same_pairs_and_another_one_others():
    gaps = torch.linspace(-1, 1, 100)
    draws = [
        step_of_gaps(gaps, GapAverages(0.0, 1.0), BetaDPOOptions(keep_fraction=0.5), seed).weight for seed in (7, 7, 8)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_pairs_are_drawn_without_replacement_by_their_weights():
    """Of two pairs with weights 1 and e^-2, the first is drawn in 1 / (1 + e^-2) of all draws."""
    generator, gaps = torch.Generator().manual_seed(0), torch.tensor([0.0, 2.0], dtype=torch.float64)
    draws = [int(draw_pairs(gaps, GapAverages(0.0, 1.0), 0.5, generator)) for _ in range(4000)]
    assert 1 - sum(draws) / 4000 == pytest.approx(1 / (1 + math.exp(-2)), abs=0.02)  # 0.881, standard error 0.005


def test_where_all_weights_underflow_the_nearest_pairs_are_kept():
    gaps = torch.tensor([600.0, -50.0, 600.0, 40.0], dtype=torch.float64)
    averages = GapAverages(0.0, 0.1)
    assert filter_log_weights(gaps, averages).exp().tolist() == [0.0] * 4
    assert draw_pairs(gaps, averages, 0.5, torch.Generator().manual_seed(0)).tolist() == [1, 3]


def test_gaps_that_are_all_equal_weigh_the_same():
    """As in the first step, where the policy is the reference: 0 / 0 must not become NaN."""
    step = step_of_gaps(torch.zeros(10), START, BetaDPOOptions(), 0)
    assert int((step.weight > 0).sum()) == 8 and float(step.beta) == pytest.approx(0.1) and step.averages == START


def test_gaps_may_be_those_of_rewards():
    _, batch = pairs()
    plain, scaled = gaps_of(batch, BetaDPOOptions()), gaps_of(batch, BetaDPOOptions(beta=0.5, scale_gap_by_beta=True))
    torch.testing.assert_close(scaled, plain / 2)
    assert not plain.requires_grad


def test_the_averages_go_on_from_step_to_step():
    first = step_of_gaps(torch.tensor([1.0, 3.0]), START, BetaDPOOptions(momentum=0.5), 0).averages
    assert step_of_gaps(
        torch.tensor([5.0, 5.0]), first, BetaDPOOptions(momentum=0.5), 0
    ).averages.mean == pytest.approx(0.5 * 1.0 + 2.5)
    assert ema_update(1.0, 2.0, 0.9) == pytest.approx(1.1)


def test_a_step_that_is_missing_or_empty_is_refused():
    with pytest.raises(ValueError, match="step_of_gaps"):
        beta_dpo(pairs()[1], ALL)
    with pytest.raises(ValueError, match="at least one pair"):
        step_of_gaps(torch.zeros(0), START, ALL, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype):
    _, batch = pairs(dtype=dtype)
    assert beta_dpo(with_step(batch, step_of_gaps(gaps_of(batch, ALL), START, ALL, 0)), ALL).loss.dtype == torch.float32
