"""TDPO, LD-DPO, GKD and token rewards: known values, which terms take gradients, and what lies at the limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.configs.token_level import GKDOptions, LDDPOOptions, TDPO1Options, TDPO2Options
from alignflow.models.losses.base import PairBatch, pairs_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.token_level import gkd, ld_dpo, sequential_kl, tdpo1, tdpo2, token_rewards
from alignflow.models.sequences import prefix_sums

TYPES = [torch.float32, torch.float64]
LN2 = math.log(2)
TDPOS = [(tdpo1, TDPO1Options(beta=0.5)), (tdpo2, TDPO2Options(beta=0.5, alpha=0.5))]
GARBAGE = [float("nan"), float("inf"), -float("inf"), 1e300]


def batch(policy, reference, kls=None, masks=None):
    """Pairs from lists (or tensors) of figures per token, chosen and rejected, each (pairs, time)."""
    sides = [
        [torch.as_tensor(rows, dtype=torch.float64) if isinstance(rows, list) else rows for rows in both]
        for both in (policy, reference)
    ]
    masks = masks or [torch.ones(rows.shape) for rows in sides[0]]
    pairs = pairs_of_tokens(tuple(sides[0]), tuple(masks), tuple(sides[1]))
    for answers, values, mask in zip((pairs.chosen, pairs.rejected), kls or (), masks, strict=False):
        answers.statistics["forward_kl"] = values[mask.bool()]
    return pairs


def one_pair(rho_w, rho_l, kl_w, kl_l, dtype=torch.float64):
    """A pair of one token each, all four of which take gradients."""
    leaves = [torch.tensor([[value]], dtype=dtype, requires_grad=True) for value in (rho_w, rho_l, kl_w, kl_l)]
    zero = torch.zeros(1, 1, dtype=dtype)
    return leaves, batch(leaves[:2], (zero, zero), leaves[2:])


@pytest.mark.parametrize(("loss", "options"), TDPOS)
@pytest.mark.parametrize("dtype", TYPES)
def test_where_the_policy_is_the_reference_the_loss_of_tdpo_is_ln_2(loss, options, dtype):
    logps, zeros = torch.randn(3, 5, dtype=dtype).abs().neg(), torch.zeros(3, 5, dtype=dtype)
    output = loss(batch((logps, logps.flip(1)), (logps, logps.flip(1)), (zeros, zeros)), options)
    torch.testing.assert_close(output.loss, torch.full((3,), LN2, dtype=dtype))
    assert output.metrics["seq_kl/chosen"].tolist() == output.metrics["seq_kl/difference"].tolist() == [0.0] * 3


def test_tdpo_has_the_values_worked_out_by_hand():
    """rho(w) = 2, rho(l) = -1, SeqKL(w) = 0.5, SeqKL(l) = 3."""
    _, pairs = one_pair(2.0, -1.0, 0.5, 3.0)
    assert float(tdpo1(pairs, TDPO1Options(beta=0.5)).loss) == pytest.approx(math.log1p(math.exp(-0.5 * (3 - 2.5))))
    output = tdpo2(pairs, TDPO2Options(beta=0.5, alpha=0.2))
    assert float(output.loss) == pytest.approx(math.log1p(math.exp(-0.5 * (3 - 0.2 * 2.5))))
    assert output.metrics["rewards/chosen"].tolist() == [1.25] and output.metrics["rewards/rejected"].tolist() == [1.0]
    assert [float(output.metrics[f"seq_kl/{name}"]) for name in ("chosen", "rejected", "difference")] == [0.5, 3.0, 2.5]


def test_the_chosen_kl_takes_a_gradient_in_tdpo1_and_none_in_tdpo2_and_the_rejected_one_takes_it_in_both():
    for (loss, options), chosen in zip(TDPOS, (True, False), strict=True):
        leaves, pairs = one_pair(0.3, -0.2, 0.5, 0.7)
        gradients = torch.autograd.grad(loss(pairs, options).loss.sum(), leaves, allow_unused=True)
        assert gradients[0] < 0 < gradients[1] and gradients[3] > 0
        assert (gradients[2] is not None) == chosen and (not chosen or gradients[2] < 0)


def test_tdpo2_with_alpha_0_is_dpo():
    leaves, pairs = one_pair(0.3, -0.2, 0.5, 0.7)
    torch.testing.assert_close(
        tdpo2(pairs, TDPO2Options(beta=0.3, alpha=0.0)).loss, dpo(pairs, DPOOptions(beta=0.3)).loss
    )


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0, 50), min_size=4, max_size=4))
def test_swapping_chosen_and_rejected_turns_the_margin_of_tdpo1_round(values):
    _, pairs = one_pair(*values)
    swapped = PairBatch(pairs.rejected, pairs.chosen)
    one, other = (torch.expm1(tdpo1(sides, TDPO1Options(beta=0.1)).loss).log() for sides in (pairs, swapped))  # -z
    torch.testing.assert_close(one, -other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("loss", "options"), TDPOS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("margin", [600.0, -600.0, 1e4, -1e4])
def test_margins_of_600_nats_and_more_are_finite_in_tdpo(loss, options, dtype, margin):
    leaves, pairs = one_pair(margin, -margin, 600.0, 0.0, dtype)
    output = loss(pairs, options)
    output.loss.sum().backward()
    assert output.loss.dtype == dtype and output.loss.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)


def test_an_answer_without_tokens_has_a_sequential_kl_of_0():
    masks = torch.zeros(1, 2), torch.ones(1, 2)
    values = torch.full((1, 2), 2.0, dtype=torch.float64)
    pairs = batch((values, values), (values, values), (values, values), masks)
    assert (float(sequential_kl(pairs.chosen)), float(sequential_kl(pairs.rejected))) == (0.0, 4.0)
    assert tdpo2(pairs, TDPO2Options()).loss.isfinite().all() and ld_dpo(pairs, LDDPOOptions()).loss.isfinite().all()


def ragged(dtype=torch.float64, wide=False):
    """Pairs whose answers have 3 and 5, and 4 and 1 tokens; `wide` lays them under masks with holes, with garbage in between."""
    generator = torch.Generator().manual_seed(3)
    lengths = ((3, 4), (5, 1))
    figures = {
        kind: [[-torch.rand(size, generator=generator, dtype=torch.float64) for size in side] for side in lengths]
        for kind in "prk"
    }
    laid = {kind: [] for kind in figures}
    masks = []
    for number, side in enumerate(lengths):
        mask = torch.zeros(2, 12)
        for row, size in enumerate(side):
            mask[row, torch.randperm(12, generator=generator)[:size] if wide else torch.arange(size)] = 1
        masks.append(mask)
        for kind, rows in figures.items():
            grid = (
                torch.tensor((GARBAGE * 6)[: mask.numel()], dtype=torch.float64).reshape(mask.shape)
                if wide
                else torch.zeros(mask.shape, dtype=torch.float64)
            )
            grid[mask.bool()] = torch.cat(rows[number])
            laid[kind].append(grid.to(dtype))
    return laid, masks


LOSSES = [*TDPOS, (ld_dpo, LDDPOOptions(beta=0.5, ld_alpha=0.3))]


@pytest.mark.parametrize(("loss", "options"), LOSSES)
@pytest.mark.parametrize("dtype", TYPES)
def test_holes_in_masks_and_garbage_outside_of_them_change_nothing_and_get_no_gradient(loss, options, dtype):
    results = []
    for wide in (False, True):
        laid, masks = ragged(dtype, wide)
        leaves = [rows.requires_grad_() for rows in (*laid["p"], *laid["k"])]
        output = loss(batch(laid["p"], laid["r"], laid["k"], masks), options)
        found = torch.autograd.grad(output.loss.sum(), leaves, allow_unused=True)
        taken = [(gradient, mask) for gradient, mask in zip(found, masks * 2, strict=True) if gradient is not None]
        assert len(taken) == {tdpo1: 4, tdpo2: 3, ld_dpo: 2}[loss]
        for gradient, mask in taken:
            assert (gradient[mask == 0] == 0).all()
        results.append([output.loss, *(gradient[mask.bool()] for gradient, mask in taken)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("loss", "options"), LOSSES)
def test_fp32_agrees_with_fp64_and_half_precision_is_computed_in_fp32(loss, options):
    losses = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        laid, masks = ragged(dtype)
        losses[dtype] = loss(batch(laid["p"], laid["r"], laid["k"], masks), options).loss
    torch.testing.assert_close(losses[torch.float32].double(), losses[torch.float64], rtol=1e-5, atol=1e-6)
    assert losses[torch.bfloat16].dtype == torch.float32


def test_ld_dpo_weighs_what_is_beyond_the_shorter_answer():
    """Log-ratios of 1, 2, 4 (chosen) and 8, 16 (rejected): two tokens of each count in full."""
    pairs = batch(([[1.0, 2.0, 4.0]], [[8.0, 16.0]]), ([[0.0] * 3], [[0.0] * 2]))
    output = ld_dpo(pairs, LDDPOOptions(beta=0.1, ld_alpha=0.25))
    assert output.metrics["rewards/chosen"].tolist() == pytest.approx([0.4]) and output.metrics[
        "rewards/rejected"
    ].tolist() == pytest.approx([2.4])
    assert float(output.loss) == pytest.approx(math.log1p(math.exp(2.0)))


def test_ld_dpo_with_ld_alpha_1_is_dpo_and_with_0_it_forgets_the_tail():
    laid, masks = ragged()
    pairs = batch(laid["p"], laid["r"], None, masks)
    torch.testing.assert_close(
        ld_dpo(pairs, LDDPOOptions(beta=0.3, ld_alpha=1.0)).loss, dpo(pairs, DPOOptions(beta=0.3)).loss
    )
    laid["p"][1][0, 3:] += 100.0  # of the first pair's rejected answer, beyond the chosen one's three tokens
    changed = batch(laid["p"], laid["r"], None, masks)
    assert torch.equal(ld_dpo(changed, LDDPOOptions(ld_alpha=0.0)).loss, ld_dpo(pairs, LDDPOOptions(ld_alpha=0.0)).loss)
    assert not torch.equal(
        ld_dpo(changed, LDDPOOptions(ld_alpha=0.1)).loss, ld_dpo(pairs, LDDPOOptions(ld_alpha=0.1)).loss
    )


def test_the_reference_gets_no_gradient():
    laid, masks = ragged()
    for rows in laid["r"]:
        rows.requires_grad_()
    laid["p"][0].requires_grad_()
    pairs = batch(laid["p"], laid["r"], laid["k"], masks)
    for loss, options in LOSSES:
        assert torch.autograd.grad(
            loss(pairs, options).loss.sum(), laid["r"], allow_unused=True, retain_graph=True
        ) == (None, None)


def test_gkd_is_a_sum_per_answer_that_the_trainer_divides_by_the_tokens_of_the_step():
    laid, masks = ragged()
    pairs = batch(laid["p"], laid["r"], None, masks)
    divergences = torch.arange(7.0, dtype=torch.float64, requires_grad=True)
    pairs.chosen.statistics["generalized_jsd"] = divergences
    output = gkd(pairs.chosen, GKDOptions())
    assert output.loss.tolist() == [0.0, 0.0] and output.token_loss.tolist() == [3.0, 18.0]
    assert output.metrics["divergence"].tolist() == [1.0, 4.5]
    output.token_loss.sum().backward()
    assert torch.equal(divergences.grad, torch.ones(7, dtype=torch.float64))


def test_gkd_has_no_answers_of_the_student_here():
    with pytest.raises(ValueError, match="lmbda"):
        GKDOptions(lmbda=0.5)


def test_token_rewards_add_up_to_the_reward_of_the_answer():
    laid, masks = ragged()
    pairs = batch(laid["p"], laid["r"], None, masks)
    rewards = token_rewards(pairs.rejected, 0.2)
    torch.testing.assert_close(pairs.rejected.sums(rewards), 0.2 * pairs.rejected.logratios())
    running = prefix_sums(rewards, pairs.rejected.tokens)
    torch.testing.assert_close(running[torch.tensor([4, 5])], 0.2 * pairs.rejected.logratios())
