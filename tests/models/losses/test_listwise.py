"""Losses over lists: values by hand, what they become for two answers, and laws that hold for all of them."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.catalogue import METHODS
from alignflow.models.losses.base import OfflineBatch
from alignflow.models.losses.listwise import lambda_weights, ordinal_ranks, plackett_luce_nll, pro_terms, win_rates

NAN, INF, LN2 = float("nan"), float("inf"), math.log(2)
METHODS = {name: row for name, row in METHODS.items() if row.family == "lists"}
WITH_REFERENCE = [name for name, row in METHODS.items() if row.needs_reference]
TYPES = [torch.float32, torch.float64]


def answers(group, score, logps, tokens=None, reference=None, dtype=torch.float64):
    """A batch of answers; without a reference, the reference is 0 everywhere."""
    count = len(group)
    return OfflineBatch(
        group=torch.tensor(group),
        role=torch.full((count,), 2),
        logps=torch.as_tensor(logps, dtype=dtype),
        tokens=torch.tensor(tokens or [1] * count),
        ended=torch.ones(count).bool(),
        reference_logps=torch.as_tensor(reference if reference is not None else [0.0] * count, dtype=dtype),
        soft_label=torch.full((count,), NAN),
        score=torch.tensor(score, dtype=dtype),
    )


def run(name, batch, **options):
    """The loss of a method; LiPO's labels are the scores unless a test says otherwise."""
    row = METHODS[name]
    options = {"labels": "scores", **options} if name == "lipo" else options
    return row.resolve()(batch, catalogue.parse_options(row, options, "options"))


def random_batch(dtype=torch.float64, ties=False):
    """Three lists of 4, 1 and 3 answers, one of them with an answer without a score."""
    generator = torch.Generator().manual_seed(3)
    logps, reference = (-5 * torch.rand(9, generator=generator, dtype=torch.float64) for _ in range(2))
    score = [0.5, 0.5, 1.0, 0.0, 0.3, 0.2, 0.2, 0.2, NAN] if ties else [0.1, 0.9, 0.4, 0.7, 0.3, 0.5, 0.2, 0.8, NAN]
    return answers([0, 0, 0, 0, 1, 2, 2, 2, 2], score, logps, [3, 1, 4, 2, 2, 5, 0, 3, 2], reference, dtype)


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [  # labels 1, 0, 1/2; log-probabilities -2, -1, -3 of 1, 1 and 3 tokens: p = -2, -1, -1
        # ranks by log-probability: 2, 1, 3; gains 1, 0, sqrt 2 - 1; discounts 1 / log2 3, 1, 1/2
        (
            "lipo",
            {"beta": 1.0},
            (1 - 1 / math.log2(3)) * math.log1p(math.e)
            + (2 - 2**0.5) * (1 / math.log2(3) - 0.5) * math.log1p(math.exp(-1))
            + (2**0.5 - 1) * 0.5 * math.log1p(math.exp(2)),
        ),
        (
            "list_mle",
            {"beta": 1.0},
            math.log(math.exp(-2) + math.exp(-3) + math.exp(-1)) + 2 + math.log(math.exp(-3) + math.exp(-1)) + 3,
        ),
        ("rrhf", {}, (1 + 1 + 0) + 2),
        ("rrhf", {"rank_weight": 10.0, "sft_reduction": "mean"}, 10 * 2 + 2),
        ("pro", {"sft_coefficient": 0.0}, math.log(math.exp(-2) + math.exp(-0.5) + math.exp(-1)) + 2 + LN2),
        ("pro", {}, math.log(math.exp(-2) + math.exp(-0.5) + math.exp(-1)) + 2 + LN2 + 0.05 * 4 * 2),
    ],
)
def test_a_list_of_three_has_the_loss_worked_out_by_hand(name, options, wanted):
    found = run(name, answers([4, 4, 4], [1.0, 0.0, 0.5], [-2.0, -1.0, -3.0], [1, 1, 3]), **options).loss
    assert found.tolist() == [pytest.approx(wanted, abs=1e-12)]


@given(first=st.floats(-600, 0), second=st.floats(-600, 0), label=st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_for_two_answers_lipo_and_list_mle_are_dpo(first, second, label):
    batch = answers([0, 0], [0.0, label], [first, second])
    dpo = torch.nn.functional.softplus(torch.tensor(0.05 * (first - second), dtype=torch.float64), threshold=700)
    constant = (2**label - 1) * (1 - 1 / math.log2(3))
    torch.testing.assert_close(run("list_mle", batch).loss[0], dpo, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(run("lipo", batch).loss[0], constant * dpo, rtol=1e-10, atol=1e-12)


def test_the_sft_term_of_rrhf_is_a_sum_over_tokens_or_their_mean():
    batch = answers([0, 0], [1.0, 0.0], [-4.0, -1.0], [2, 1])
    assert [run("rrhf", batch, sft_reduction=kind).loss.tolist() for kind in ("sum", "mean")] == [[1 + 4], [1 + 2]]


@pytest.mark.parametrize("name", METHODS)
def test_scores_of_a_wider_type_widen_no_loss(name):
    batch = random_batch(torch.float32)
    wide = replace(batch, score=random_batch().score)
    assert run(name, wide).loss.dtype == torch.float32
    torch.testing.assert_close(run(name, wide).loss, run(name, batch).loss)


def test_raxs_reduction_is_the_mean_over_the_pairs_times_the_number_of_answers():
    sums, rax = (run("lipo", random_batch(ties=True), reduction=kind).loss for kind in ("sum", "rax"))
    torch.testing.assert_close(
        rax, sums * torch.tensor([4 / 5, 1.0, 3.0])
    )  # 5 strict pairs; none in the others, whose sum is 0
    assert sums[1:].tolist() == [0, 0]


def test_lipo_makes_labels_of_scores_of_any_range():
    scores = [40.0, -3.0, 7.0]
    psi = [sum(1 / (1 + math.exp(b - a)) for b in scores) / 3 for a in scores]
    logps = [-1.0, -2.0, -4.0]
    given_labels, made = (
        run("lipo", answers([0] * 3, psi, logps)),
        run("lipo", answers([0] * 3, scores, logps), labels="win_rates"),
    )
    torch.testing.assert_close(given_labels.loss, made.loss)
    wide = run("lipo", answers([0] * 3, [500.0, -500.0, 1.0], logps, dtype=torch.float32), labels="win_rates").loss
    assert torch.isfinite(wide).all() and wide > 0


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_where_the_policy_is_the_reference_the_rewards_are_0_and_the_loss_is_known(name):
    batch = replace(random_batch(), reference_logps=random_batch().logps)
    output = run(name, batch)
    if name == "list_mle":
        assert output.loss.tolist() == pytest.approx([math.log(24), 0, math.log(6)])
    else:  # every pair has ln 2; ranks follow the order of the list
        label, rank = [0.1, 0.9, 0.4, 0.7], [1, 2, 3, 4]
        weights = [
            abs(2**a - 2**b) * abs(1 / math.log2(1 + i) - 1 / math.log2(1 + j))
            for a, i in zip(label, rank, strict=True)
            for b, j in zip(label, rank, strict=True)
            if a > b
        ]
        assert float(output.loss[0]) == pytest.approx(LN2 * sum(weights))
    assert (
        output.metrics["rewards/margins"].tolist() == [0, 0, 0] and float(output.metrics["rewards/accuracies"][0]) == 0
    )


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(9)))
def test_the_order_of_answers_and_of_groups_changes_nothing_without_ties(name, order):
    batch = random_batch()
    torch.testing.assert_close(run(name, batch.rows(torch.tensor(order))).loss, run(name, batch).loss)
    renamed = replace(batch, group=torch.tensor([9, 9, 9, 9, 4, 6, 6, 6, 6]))
    torch.testing.assert_close(run(name, renamed).loss, run(name, batch).loss[[1, 2, 0]])


@pytest.mark.parametrize("name", METHODS)
def test_a_group_has_the_same_loss_and_gradient_alone_as_beside_longer_ones(name):
    batch = random_batch()
    whole = batch.logps.clone().requires_grad_()
    output = run(name, replace(batch, logps=whole))
    output.loss.sum().backward()
    for number in range(3):
        places = (batch.group == number).nonzero()[:, 0]
        own = batch.logps[places].clone().requires_grad_()
        alone = run(name, replace(batch.rows(places), logps=own))
        alone.loss.sum().backward()
        torch.testing.assert_close(alone.loss[0], output.loss[number])
        torch.testing.assert_close(own.grad, whole.grad[places])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", TYPES)
def test_an_answer_without_a_score_changes_nothing_and_gets_no_gradient_whatever_it_holds(name, dtype):
    batch = random_batch(dtype)
    clean = run(name, batch.rows(torch.arange(8)))
    for garbage in (NAN, INF, -1e30):
        logps = torch.cat([batch.logps[:8], torch.tensor([garbage], dtype=dtype)]).requires_grad_()
        output = run(name, replace(batch, logps=logps))
        output.loss.sum().backward()
        torch.testing.assert_close(output.loss, clean.loss)
        assert logps.grad[8] == 0 and torch.isfinite(logps.grad).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [600.0, -600.0, 1e4, 0.0])
def test_margins_of_600_nats_have_finite_losses_and_gradients(name, dtype, gap):
    logps = torch.tensor([-2e4 + gap, -2e4, -2e4 - gap], dtype=dtype, requires_grad=True)
    output = run(name, answers([0] * 3, [1.0, 0.5, 0.0], logps, [1, 1, 1], [-2e4] * 3, dtype))
    output.loss.sum().backward()
    assert all(torch.isfinite(values).all() for values in (output.loss, logps.grad, *output.metrics.values()))
    assert output.loss.dtype == dtype


@pytest.mark.parametrize("name", METHODS)
def test_fp32_agrees_with_fp64_and_half_precision_is_computed_in_fp32(name):
    wide, narrow = run(name, random_batch()).loss, run(name, random_batch(torch.float32)).loss
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-6)
    assert run(name, random_batch(torch.bfloat16)).loss.dtype == torch.float32


@pytest.mark.parametrize("name", METHODS)
def test_a_group_without_a_strict_pair_is_legal_and_has_only_what_does_not_rank(name):
    logps = torch.tensor([-2.0, -1.0, -3.0], dtype=torch.float64, requires_grad=True)
    output = run(name, answers([0, 0, 1], [0.5, 0.5, 0.5], logps, [2, 1, 1]))
    output.loss.sum().backward()
    wanted = {"lipo": [0, 0], "list_mle": [0, 0], "rrhf": [2, 3], "pro": [LN2 + 0.05 * 2, 0]}[name]
    gradient = {"lipo": [0, 0, 0], "list_mle": [0, 0, 0], "rrhf": [-1, 0, -1], "pro": [-0.05, 0, 0]}[name]
    assert output.loss.tolist() == pytest.approx(wanted) and logps.grad.tolist() == pytest.approx(gradient)


@pytest.mark.parametrize("name", METHODS)
def test_no_gradient_reaches_reference_or_scores(name):
    batch = random_batch()
    batch.reference_logps.requires_grad_(), batch.score.requires_grad_()
    loss = run(name, replace(batch, logps=batch.logps.requires_grad_())).loss.sum()
    found = torch.autograd.grad(loss, [batch.reference_logps, batch.score], allow_unused=True)
    assert found == (None, None)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_along_the_gradient_lowers_the_loss_and_raises_the_best_answer_above_the_worst(name):
    batch = random_batch()
    logps = batch.logps.clone().requires_grad_()
    before = run(name, replace(batch, logps=logps))
    (gradient,) = torch.autograd.grad(before.loss.sum(), logps)
    after = run(name, replace(batch, logps=batch.logps - 1e-3 * gradient))
    assert (
        after.loss.sum() < before.loss.sum() and gradient[1] < 0 < gradient[0] + 1e-12
    )  # the best and the worst of the first list


def test_lipos_weights_get_no_gradient_and_what_is_masked_is_not_looked_at():
    scores = torch.tensor([[0.3, 0.1, NAN], [0.2, 0.4, 0.1]], dtype=torch.float64, requires_grad=True)
    labels, mask = (
        torch.tensor([[1.0, 0.0, 1e300], [1.0, 0.5, 0.0]]).double().requires_grad_(),
        torch.tensor([[True, True, False], [True] * 3]),
    )
    weights = lambda_weights(scores, labels, mask)
    assert not weights.requires_grad and torch.isfinite(weights).all()
    assert weights[0, 0, 1] == pytest.approx(1 - 1 / math.log2(3)) and weights[0, 2].tolist() == [0, 0, 0]
    assert torch.equal(weights, weights.transpose(1, 2)) and weights.diagonal(dim1=1, dim2=2).abs().sum() == 0


def test_equal_scores_rank_in_the_order_of_the_list():
    mask = torch.tensor([True, True, True, False])
    assert ordinal_ranks(torch.tensor([0.0, 1.0, 0.0, NAN]), mask).tolist() == [2, 1, 3, 4]


def test_list_mle_and_pro_take_equal_labels_in_the_order_of_the_list():
    mask, labels = torch.ones(2).bool(), torch.tensor([0.5, 0.5])
    nll = (
        plackett_luce_nll(torch.tensor([1.0, 0.0]), labels, mask),
        plackett_luce_nll(torch.tensor([0.0, 1.0]), labels, mask),
    )
    assert float(nll[0]) == pytest.approx(math.log1p(math.exp(-1))) and float(nll[1]) == pytest.approx(
        math.log1p(math.e)
    )
    assert pro_terms(torch.tensor([1.0, 0.0]), labels, mask).tolist() == [pytest.approx(LN2), 0]


def test_win_rates_with_and_without_oneself():
    preferences = torch.tensor([[NAN, 0.8, 1.0], [0.2, 7.0, 0.6], [0.0, 0.4, -INF]])
    everyone = torch.ones(3).bool()
    assert win_rates(preferences, everyone, include_self=False).tolist() == pytest.approx([0.9, 0.4, 0.2])
    assert win_rates(preferences, everyone, include_self=True).tolist() == pytest.approx([2.3 / 3, 1.3 / 3, 0.9 / 3])
    two = torch.tensor([True, True, False])
    assert win_rates(preferences, two, include_self=False).tolist() == pytest.approx([0.8, 0.2, 0.0])
    assert win_rates(torch.zeros(1, 1), torch.ones(1).bool(), include_self=False).isnan().all()
