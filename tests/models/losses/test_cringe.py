"""CRINGE and Pairwise CRINGE: a negative token against a pick, class means, and the gate that closes."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.unpaired import CRINGEOptions, PairwiseCRINGEOptions
from alignflow.models.losses.base import PairBatch, answers_of_tokens
from alignflow.models.losses.cringe import cringe, pairwise_cringe, token_terms

TYPES = [torch.float32, torch.float64]
OPTIONS = CRINGEOptions(alpha=0.5, top_k=3)
PAIRWISE = {"alpha": 0.5, "top_k": 3, "b": 1.0, "tau": 2.0}


def rows(*shape, dtype=torch.float64, seed=0):
    return -3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def picked(policy, positive, mask=None, **columns):
    """Answers whose tokens have picks."""
    mask = torch.ones_like(policy) if mask is None else mask
    return answers_of_tokens(policy, mask, statistics={"cringe_positive": positive[mask.bool()]}, **columns)


def labelled(policy, positive, label, mask=None):
    label = torch.tensor(label)
    return picked(policy, positive, mask, label=label, step={"undesirable": (1 - label).mean()})


def paired(chosen, rejected, positive, mask=None):
    return PairBatch(picked(chosen, chosen.detach(), mask), picked(rejected, positive, mask))


@settings(max_examples=40, deadline=None)
@given(st.floats(-600, 600), st.floats(-600, 600), st.floats(-300, 300))
def test_a_shift_of_both_logits_changes_no_term(negative, positive, shift):
    found, moved = (
        token_terms(*torch.tensor([negative + by, positive + by], dtype=torch.float64)) for by in (0.0, shift)
    )
    torch.testing.assert_close(found, moved, atol=1e-9, rtol=1e-9)


def test_a_term_is_ln_2_where_both_are_as_probable_and_no_probability_can_overflow_it():
    assert float(token_terms(torch.tensor(-1.0), torch.tensor(-1.0))) == pytest.approx(math.log(2))
    assert token_terms(torch.tensor([600.0, -600.0]), torch.zeros(2)).tolist() == [600.0, 0.0]


def test_a_term_lowers_the_negative_token_and_raises_the_pick():
    negative, positive = torch.tensor(-1.0, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    token_terms(negative, positive).backward()
    assert float(negative.grad) == -float(positive.grad) == pytest.approx(1 / (1 + math.exp(-1)))


def test_cringe_is_the_sum_of_the_means_of_both_classes():
    policy, positive = torch.full((3, 2), -1.0), torch.full((3, 2), -1.0)
    output = cringe(labelled(policy, positive, [1.0, 0.0, 0.0]), OPTIONS)
    assert float(output.loss.mean()) == pytest.approx(2.0 + 0.5 * 2 * math.log(2))
    assert float(output.metrics["nll"].nanmean()) == 2.0 and output.metrics["nll"].isnan().tolist() == [
        False,
        True,
        True,
    ]
    assert float(output.metrics["cringe"].nanmean()) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("label", [[1.0, 1.0], [0.0, 0.0]])
def test_cringe_in_a_step_of_one_class_is_that_classs_mean(label):
    policy = rows(2, 3).requires_grad_()
    output = cringe(labelled(policy, rows(2, 3, seed=1), label), OPTIONS)
    output.loss.mean().backward()
    name, weight = ("nll", 1.0) if label[0] else ("cringe", 0.5)
    torch.testing.assert_close(output.loss.mean().detach(), weight * output.metrics[name].mean())
    assert torch.isfinite(policy.grad).all() and bool((policy.grad < 0).all()) == bool(label[0])


def test_the_gate_is_half_open_at_the_margin_b_and_closes_beyond_it():
    chosen, rejected = torch.tensor([[-1.0], [-1.0], [-1.0]]), torch.tensor([[-2.0], [-61.0], [59.0]])
    output = pairwise_cringe(paired(chosen, rejected, rejected), PairwiseCRINGEOptions(**PAIRWISE))
    assert output.metrics["gate"].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(29.5)), 1.0])
    assert output.metrics["rewards/margins"].tolist() == [1.0, 60.0, -60.0]
    torch.testing.assert_close(output.loss, output.metrics["gate"] * (1 + 0.5 * math.log(2)))


def test_the_gate_is_a_weight_without_gradient_unless_it_is_to_learn():
    chosen, rejected, positive = rows(3, 4).requires_grad_(), rows(3, 4, seed=1).requires_grad_(), rows(3, 4, seed=2)
    found = {}
    for detached in (True, False):
        output = pairwise_cringe(
            paired(chosen, rejected, positive), PairwiseCRINGEOptions(**PAIRWISE, detach_gate=detached)
        )
        found[detached] = torch.autograd.grad(output.loss.sum(), chosen)[0]
        assert not output.metrics["gate"].requires_grad
    torch.testing.assert_close(found[True], -output.metrics["gate"][:, None].expand(3, 4))
    gate, body = output.metrics["gate"], output.metrics["nll"] + 0.5 * output.metrics["cringe"]
    live = -gate - gate * (1 - gate) / 2.0 * body  # the gate falls as the margin grows
    torch.testing.assert_close(found[False], live[:, None].expand(3, 4))


FUNCTIONS = {
    "cringe": lambda policy, positive, mask=None: cringe(labelled(policy, positive, [1.0, 0.0], mask), OPTIONS),
    "pairwise_cringe": lambda policy, positive, mask=None: pairwise_cringe(
        PairBatch(
            *(
                picked(policy[side], positive[side], None if mask is None else mask[side])
                for side in (slice(0, 1), slice(1, 2))
            )
        ),
        PairwiseCRINGEOptions(**PAIRWISE),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [600.0, -600.0, 0.0])
def test_600_nats_have_finite_losses_and_gradients(name, dtype, gap):
    policy = torch.tensor([[-700.0], [gap - 700.0]], dtype=dtype, requires_grad=True)
    positive = torch.full((2, 1), -700.0, dtype=dtype, requires_grad=True)
    output = FUNCTIONS[name](policy, positive)
    output.loss.sum().backward()
    assert (
        all(torch.isfinite(values).all() for values in (output.loss, policy.grad, positive.grad))
        and output.loss.dtype == dtype
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e300])
def test_garbage_outside_of_masks_with_holes_changes_nothing_and_gets_no_gradient(name, garbage):
    clean, picks, mask = rows(2, 3), rows(2, 3, seed=1), torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    dirty, other = (
        torch.full((2, 5), garbage, dtype=torch.float64).masked_scatter(mask.bool(), part) for part in (clean, picks)
    )
    results = []
    for policy, positive, of in ((clean, picks, None), (dirty, other, mask)):
        leaves = policy.clone().requires_grad_(), positive.clone().requires_grad_()
        loss = FUNCTIONS[name](*leaves, of).loss
        results.append((loss, *torch.autograd.grad(loss.sum(), leaves)))
    torch.testing.assert_close(results[0][0], results[1][0])
    for plain, wide in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(wide[mask.bool()], plain.flatten())
        assert bool((wide[~mask.bool()] == 0).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_answers_are_finite_fp32_agrees_and_half_precision_is_computed_in_fp32(name):
    policy, positive = rows(2, 5), rows(2, 5, seed=1)
    assert torch.isfinite(FUNCTIONS[name](policy, positive, torch.zeros(2, 5)).loss).all()
    torch.testing.assert_close(
        FUNCTIONS[name](policy.float(), positive.float()).loss.double(),
        FUNCTIONS[name](policy, positive).loss,
        rtol=1e-4,
        atol=1e-6,
    )
    assert FUNCTIONS[name](policy.bfloat16(), positive.bfloat16()).loss.dtype == torch.float32


def test_a_desirable_answer_takes_nothing_from_its_picks():
    policy, positive = rows(2, 3), rows(2, 3, seed=1).requires_grad_()
    batch = labelled(policy.requires_grad_(), positive, [1.0, 0.0])
    cringe(replace(batch), OPTIONS).loss.sum().backward()
    assert bool((positive.grad[0] == 0).all()) and bool((positive.grad[1] < 0).all())
