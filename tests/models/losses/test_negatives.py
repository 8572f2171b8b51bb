"""NPO and D2O: limits that are other methods, means over the right answers, and refusals."""

import math
from dataclasses import replace

import pytest
import torch

from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.configs.unpaired import D2OOptions, NPOOptions
from alignflow.models.losses.base import Role, answers_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.negatives import d2o, npo

TYPES = [torch.float32, torch.float64]
NEGATIVE, SAMPLE = int(Role.REJECTED), int(Role.OTHER)


def rows(*shape, dtype=torch.float64, seed=0):
    return -3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labelled(policy, reference, label, mask=None):
    label = torch.tensor(label)
    return answers_of_tokens(
        policy,
        torch.ones_like(policy) if mask is None else mask,
        reference,
        label=label,
        step={"undesirable": (1 - label).mean()},
    )


def grouped(policy, reference, group, role, mask=None):
    mask = torch.ones_like(policy) if mask is None else mask
    return answers_of_tokens(policy, mask, reference, group=torch.tensor(group), role=torch.tensor(role))


def test_npo_is_a_mean_over_the_answers_to_forget_and_nll_per_token_of_those_to_hold():
    policy = torch.tensor([[-1.0, -2.0], [-1.5, -0.5], [-4.0, -3.0]], requires_grad=True)
    output = npo(labelled(policy, policy.detach(), [1.0, 0.0, 0.0]), NPOOptions(beta=0.5, retain_weight=2.0))
    assert float(output.loss.mean()) == pytest.approx(4 * math.log(2)) and float(output.loss[0]) == 0.0
    assert output.token_loss.tolist() == [6.0, 0.0, 0.0]
    assert (
        output.metrics["gradient_weight"].isnan().tolist() == [True, False, False]
        and float(output.metrics["gradient_weight"][1]) == 1.0
    )


def test_npo_without_a_retain_term_leaves_desirable_answers_alone():
    policy = rows(2, 3).requires_grad_()
    output = npo(labelled(policy, rows(2, 3, seed=1), [1.0, 0.0]), NPOOptions(retain="none"))
    output.loss.sum().backward()
    assert output.token_loss is None and bool((policy.grad[0] == 0).all()) and bool((policy.grad[1] > 0).all())


def test_npo_holds_answers_by_their_kl_to_the_reference_whatever_that_of_the_others_is():
    """By hand in float64: two answers of two tokens; the first is retained, with KLs of 0.25 and 0.5 at its tokens."""
    policy, reference = (
        torch.tensor([[-1.0, -2.0], [-1.5, -0.5]]).double(),
        torch.tensor([[-1.5, -1.0], [-2.0, -1.0]]).double(),
    )
    kl = torch.tensor([0.25, 0.5, float("inf"), 9.0], dtype=torch.float64, requires_grad=True)
    batch = labelled(policy.requires_grad_(), reference, [1.0, 0.0])
    batch = replace(batch, statistics={**batch.statistics, "forward_kl": kl})
    output = npo(batch, NPOOptions(beta=0.5, retain="kl", retain_weight=3.0))
    assert output.token_loss.tolist() == [2.25, 0.0] and output.token_loss.dtype == torch.float64
    assert float(output.loss[1] / 2) == pytest.approx(4 * math.log1p(math.exp(0.5)), abs=1e-12), "rho = 1"
    assert output.metrics["retain_kl"][0] == 0.375 and bool(output.metrics["retain_kl"][1].isnan())
    (output.loss.mean() + output.token_loss.sum() / 2).backward()
    assert kl.grad.tolist() == [1.5, 1.5, 0.0, 0.0] and policy.grad[0].tolist() == [0.0, 0.0]


def test_npo_is_gradient_ascent_as_beta_goes_to_0():
    policy = rows(1, 4).requires_grad_()
    npo(labelled(policy, rows(1, 4, seed=1), [0.0]), NPOOptions(beta=1e-6)).loss.sum().backward()
    torch.testing.assert_close(policy.grad, torch.ones(1, 4).double(), rtol=1e-5, atol=0)


def test_npo_pushes_no_further_where_an_answer_is_forgotten():
    policy = torch.tensor([[-60.0], [-1.0]], requires_grad=True)
    npo(labelled(policy, torch.full((2, 1), -1.0), [0.0, 0.0]), NPOOptions(beta=1.0)).loss.sum().backward()
    assert 0 < policy.grad[0] < 1e-20 and float(policy.grad[1]) == pytest.approx(1.0)


@pytest.mark.parametrize("label", [[1.0, 1.0], [0.0, 0.0]])
def test_npo_is_finite_in_a_step_of_one_class(label):
    policy = rows(2, 3).requires_grad_()
    output = npo(labelled(policy, rows(2, 3, seed=1), label), NPOOptions())
    (output.loss + output.token_loss).sum().backward()
    assert torch.isfinite(policy.grad).all() and torch.isfinite(output.loss).all() and bool((policy.grad != 0).all())


def test_d2o_with_one_sample_and_equal_factors_is_dpo_on_sample_and_negative():
    policy, reference = rows(6, 4), rows(6, 4, seed=1)
    batch = grouped(policy, reference, [0, 1, 2] * 2, [SAMPLE] * 3 + [NEGATIVE] * 3)
    pairs = replace(batch, role=torch.tensor([int(Role.CHOSEN)] * 3 + [NEGATIVE] * 3)).pairs()
    torch.testing.assert_close(d2o(batch, D2OOptions(beta=0.3, alpha=0.3)).loss, dpo(pairs, DPOOptions(beta=0.3)).loss)


def test_d2o_is_worked_out_by_hand_with_groups_of_different_sizes_in_any_order():
    policy = torch.tensor([[3.0], [1.0], [-2.0], [5.0], [0.0]])  # rho, with a reference of 0
    batch = grouped(policy, torch.zeros(5, 1), [7, 4, 7, 4, 4], [SAMPLE, NEGATIVE, NEGATIVE, SAMPLE, SAMPLE])
    output = d2o(batch, D2OOptions(beta=2.0, alpha=0.5))
    margins = [2.0 * 2.5 - 0.5, 2.0 * 3.0 + 1.0]
    assert output.metrics["rewards/margins"].tolist() == margins
    torch.testing.assert_close(output.loss, torch.tensor([math.log1p(math.exp(-margin)) for margin in margins]))
    assert output.metrics["logps/chosen"].tolist() == [2.5, 3.0] and output.metrics["logps/rejected"].tolist() == [
        1.0,
        -2.0,
    ]


def test_d2o_at_the_reference_is_ln_2_raises_samples_and_lowers_the_negative():
    policy = rows(3, 4).requires_grad_()
    output = d2o(grouped(policy, policy.detach(), [0, 0, 0], [SAMPLE, SAMPLE, NEGATIVE]), D2OOptions())
    output.loss.sum().backward()
    assert (
        output.loss.tolist() == pytest.approx([math.log(2)])
        and bool((policy.grad[:2] < 0).all())
        and bool((policy.grad[2] > 0).all())
    )
    assert output.metrics["rewards/accuracies"].tolist() == [0.0]


@pytest.mark.parametrize("role", [[NEGATIVE], [SAMPLE, SAMPLE], [NEGATIVE, NEGATIVE], [SAMPLE, NEGATIVE, NEGATIVE]])
def test_a_group_without_a_negative_or_without_samples_is_refused(role):
    policy = rows(len(role), 2)
    with pytest.raises(ValueError, match="exactly one rejected"):
        d2o(grouped(policy, policy, [0] * len(role), role), D2OOptions())


FUNCTIONS = {
    "npo": lambda policy, reference, mask=None: npo(
        labelled(policy, reference, [0.0, 1.0], mask), NPOOptions(beta=1.0)
    ),
    "d2o": lambda policy, reference, mask=None: d2o(
        grouped(policy, reference, [0, 0], [SAMPLE, NEGATIVE], mask), D2OOptions(beta=1.0, alpha=1.0)
    ),
}


def total(output):
    return output.loss.sum() + (0.0 if output.token_loss is None else output.token_loss.sum())


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [600.0, -600.0, 0.0])
def test_600_nats_have_finite_losses_and_gradients(name, dtype, gap):
    policy = torch.tensor([[gap - 700], [-gap - 700]], dtype=dtype, requires_grad=True)
    output = FUNCTIONS[name](policy, torch.full((2, 1), -700.0, dtype=dtype))
    total(output).backward()
    assert torch.isfinite(total(output)) and torch.isfinite(policy.grad).all() and output.loss.dtype == dtype


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e300])
def test_garbage_outside_of_masks_with_holes_changes_nothing_and_gets_no_gradient(name, garbage):
    clean, reference, mask = rows(2, 3), rows(2, 3, seed=1), torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    dirty, other = (
        torch.full((2, 5), garbage, dtype=torch.float64).masked_scatter(mask.bool(), part)
        for part in (clean, reference)
    )
    results = []
    for policy, frozen, of in ((clean, reference, None), (dirty, other, mask)):
        leaf = policy.clone().requires_grad_()
        output = FUNCTIONS[name](leaf, frozen, of)
        results.append((total(output), torch.autograd.grad(total(output), leaf)[0]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[1][1][mask.bool()], results[0][1].flatten())
    assert bool((results[1][1][~mask.bool()] == 0).all())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_answers_are_finite_no_gradient_reaches_the_reference_and_fp32_agrees(name):
    policy, reference = rows(2, 5).requires_grad_(), rows(2, 5, seed=1).requires_grad_()
    gradients = torch.autograd.grad(total(FUNCTIONS[name](policy, reference)), [policy, reference], allow_unused=True)
    assert bool((gradients[0] != 0).all()) and gradients[1] is None
    assert torch.isfinite(total(FUNCTIONS[name](policy, reference, torch.zeros(2, 5))))
    narrow = total(FUNCTIONS[name](policy.float(), reference.float()))
    torch.testing.assert_close(narrow.double(), total(FUNCTIONS[name](policy, reference)), rtol=1e-4, atol=1e-6)
    assert FUNCTIONS[name](policy.bfloat16(), reference.bfloat16()).loss.dtype == torch.float32
