"""Losses by ratios of answers, weights without a gradient, and a gate: by hand, and REINFORCE at ratio 1."""

import math

import pytest
import torch

from alignflow.data import catalogue
from alignflow.data.configs.online import OnlineOptions
from alignflow.models.losses.ppo import PolicyBatch, loss_denominator, token_weights
from alignflow.models.losses.ratios import cispo, gspo, gspo_token, sapo, sequence_clip

ROWS = torch.tensor([0, 0, 1])
OPTIONS = OnlineOptions(cliprange=0.2, aggregate="sequence")


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=tolerance)


def batch(ratios=(1.5, 0.5, 1.0), advantages=(1.0, 1.0, -2.0), mask=(True, True, True)):
    """Two answers, of two tokens and of one."""
    logratios = tensor(*ratios).log()
    logps = (logratios - 1.0).requires_grad_()
    return PolicyBatch(logps, torch.full_like(logratios, -1.0), tensor(*advantages), torch.tensor(mask), ROWS)


def mean_loss(function, given, options=OPTIONS):
    weights = token_weights(given.mask, ROWS, 2, options.aggregate, torch.float64)
    return (function(given, options).loss * weights).sum() / loss_denominator(weights, given.mask, ROWS, 2, options)


def test_the_ratio_of_a_whole_answer():
    """1.5 * 0.5 = 0.75 for the first answer: -0.75 on each token; 1 for the second, whose loss is 2."""
    close(sequence_clip(batch(), OPTIONS).loss, [-0.75, -0.75, 2.0])
    # 1.5 * 1 is clipped to 1.2 for a gain; a loss counts whole.
    close(sequence_clip(batch((1.5, 1.0, 1.5)), OPTIONS).loss, [-1.2, -1.2, 3.0])
    close(mean_loss(sequence_clip, batch()), (-0.75 + 2.0) / 2)


def test_the_length_normalised_ratio():
    close(gspo(batch(), OPTIONS).loss, [-(0.75**0.5), -(0.75**0.5), 2.0])
    close(gspo_token(batch(), OPTIONS).loss, [-(0.75**0.5), -(0.75**0.5), 2.0])


def test_with_one_advantage_per_answer_gspo_and_gspo_token_have_one_gradient():
    found = []
    for function in (gspo, gspo_token):
        given = batch((1.1, 0.95, 0.9))
        mean_loss(function, given).backward()
        found.append(given.logps.grad)
    close(found[0], found[1])


def test_cispo_weighs_log_probabilities_and_keeps_every_gradient():
    """A ratio of 9 weighs 1 + 4 = 5; its token still has a gradient, which the clip of PPO takes away."""
    given, options = batch((9.0, 0.5, 1.0)), OnlineOptions(cliprange=1.0, cliprange_high=4.0)
    found = cispo(given, options)
    close(found.loss, -tensor(5.0, 0.5, 1.0) * given.advantages * given.logps.detach())
    found.loss.sum().backward()
    close(given.logps.grad, [-5.0, -0.5, 2.0])
    assert found.metrics["clipfrac"].tolist() == [1, 0, 0]


def test_the_gate_of_sapo():
    """4 / tau sigmoid(tau (r - 1)): tau 1 where A > 0, 1.05 where not; the slope at ratio 1 is 1."""
    given = batch((1.5, 1.0, 1.0))
    found = sapo(given, OnlineOptions())
    close(found.loss, [-4 / (1 + math.exp(-0.5)), -2.0, 2 * 2 / 1.05])
    found.loss.sum().backward()
    close(given.logps.grad[1:], [-1.0, 2.0])


@pytest.mark.parametrize("name", list(catalogue.POLICY_LOSSES))
def test_at_ratio_1_every_loss_has_the_gradient_of_reinforce(name):
    """Losses of whole answers: of the answer's summed log-probabilities (its mean for GSPO), averaged over answers."""
    given = batch((1.0, 1.0, 1.0))
    mean_loss(catalogue.POLICY_LOSSES[name].resolve(), given).backward()
    whole = -given.advantages / 2
    lengths = tensor(2, 2, 1)
    close(given.logps.grad, whole if name == "sequence_clip" else whole / lengths)


@pytest.mark.parametrize("function", [sequence_clip, gspo, gspo_token, cispo, sapo])
def test_masked_tokens_are_in_no_ratio_and_have_no_gradient(function):
    first = batch((1.1, 0.5, 1.0), mask=(True, False, True))
    wild = tensor(0.0, float("nan"), 0.0)
    second = PolicyBatch(
        (first.logps.detach() + wild).requires_grad_(), first.old_logps, first.advantages + wild, first.mask, ROWS
    )
    for given in (first, second):
        function(given, OPTIONS).loss.sum().backward()
    close(function(first, OPTIONS).loss, function(second, OPTIONS).loss)
    assert function(first, OPTIONS).loss[1] == 0 and second.logps.grad[1] == 0 and second.logps.grad.isfinite().all()


def test_the_approximate_kl_is_that_of_tokens_for_every_loss():
    for name in catalogue.POLICY_LOSSES:
        found = catalogue.POLICY_LOSSES[name].resolve()(batch(), OPTIONS).metrics
        close(found["approxkl"], tensor(1.5, 0.5, 1.0).log().square() / 2)


def test_a_constant_divides_by_answers_times_their_longest_length():
    """Dr. GRPO: an answer's tokens weigh the same however many there are; a row without tokens is not counted."""
    options = OnlineOptions(aggregate="constant", response_length=10)
    mask = torch.tensor([True, True, True])
    weights = token_weights(mask, ROWS, 3, "constant", torch.float64)
    assert weights.tolist() == [1, 1, 1] and loss_denominator(weights, mask, ROWS, 3, options) == 20


def test_a_flat_batch_without_rows_is_refused():
    flat = batch()
    with pytest.raises(ValueError, match="pass rows"):
        gspo(PolicyBatch(flat.logps, flat.old_logps, flat.advantages, flat.mask), OPTIONS)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_gate_is_closed_where_the_ratio_is_beyond_fp32(advantage):
    logps = torch.zeros(1, requires_grad=True)
    batch = PolicyBatch(logps, torch.full((1,), -95.0), torch.full((1,), advantage), torch.ones(1))
    sapo(batch, OnlineOptions()).loss.sum().backward()
    assert logps.grad.tolist() == [0.0]
