"""The batch of all offline losses: answers in any order, views of them, and sums that nothing outside of a mask reaches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.models.losses.base import OfflineBatch, Role, pairs_of_tokens

NAN, INF = float("nan"), float("inf")


def answers(groups, roles, tokens):
    """A batch whose log-probabilities and figures say which answer they are of."""
    count, lengths = len(groups), torch.tensor(tokens)
    names = torch.arange(count, dtype=torch.float32)
    return OfflineBatch(
        group=torch.tensor(groups),
        role=torch.tensor([int(role) for role in roles]),
        logps=-names,
        tokens=lengths,
        ended=torch.ones(count, dtype=torch.bool),
        reference_logps=-names - 1,
        soft_label=torch.full((count,), NAN),
        statistics={"entropy": torch.repeat_interleave(names, lengths)},
    )


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(6)))
def test_pairs_are_found_by_group_and_role_whatever_the_order_of_the_answers(order):
    groups, roles, tokens = [0, 1, 2, 0, 1, 2], [Role.CHOSEN] * 3 + [Role.REJECTED] * 3, [2, 0, 3, 1, 4, 2]
    shuffled = answers(groups, roles, tokens).rows(torch.tensor(order))
    pairs = shuffled.pairs()
    assert pairs.chosen.logps.tolist() == [0, -1, -2] and pairs.rejected.logps.tolist() == [-3, -4, -5]
    assert pairs.chosen.statistics["entropy"].tolist() == [0, 0, 2, 2, 2] and pairs.rejected.tokens.tolist() == [
        1,
        4,
        2,
    ]
    assert pairs.rejected.sums(pairs.rejected.statistics["entropy"]).tolist() == [3, 16, 10]


@pytest.mark.parametrize(
    ("groups", "roles"), [([0, 1], "CR"), ([0, 0, 0], "CRR"), ([0, 0, 1], "CRC"), ([0, 0, 0, 0], "CCRR")]
)
def test_groups_that_are_no_pairs_are_refused(groups, roles):
    named = [Role.CHOSEN if letter == "C" else Role.REJECTED for letter in roles]
    with pytest.raises(ValueError, match="exactly one chosen and one rejected"):
        answers(groups, named, [1] * len(groups)).pairs()


def test_what_stands_outside_of_a_mask_is_not_looked_at_and_gets_no_gradient():
    policy = torch.tensor([[-1.0, NAN, -2.0, INF], [NAN, -3.0, -INF, 5e9]], requires_grad=True)
    mask = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0]])
    pairs = pairs_of_tokens((policy, policy), (mask, mask), (policy.detach(), policy.detach()))
    assert (
        pairs.logps()[0].tolist() == [-3, -3]
        and pairs.mean_logps()[0].tolist() == [-1.5, -3]
        and pairs.chosen.tokens.tolist() == [2, 1]
    )
    assert pairs.logratios()[1].tolist() == [0, 0] and pairs.chosen.statistics["logps"].tolist() == [-1, -2, -3]
    pairs.logps()[0].sum().backward()
    assert torch.equal(policy.grad, mask.float())


@pytest.mark.parametrize(
    ("given_type", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_figures_are_summed_in_fp32_at_least_and_never_narrowed(given_type, computed):
    policy, mask = torch.full((1, 512), -0.01, dtype=given_type), torch.ones(1, 512)
    pairs = pairs_of_tokens((policy, policy), (mask, mask), (policy, policy))
    assert pairs.logps()[0].dtype == pairs.logratios()[0].dtype == pairs.mean_logps()[0].dtype == computed
    assert float(pairs.mean_logps()[0]) == pytest.approx(float(policy[0, 0]), rel=1e-6)


def test_no_gradient_reaches_the_reference_and_a_loss_that_needs_one_says_so():
    policy, reference, mask = torch.randn(2, 3), torch.randn(2, 3, requires_grad=True), torch.ones(2, 3)
    pairs = pairs_of_tokens((policy, policy), (mask, mask), (reference, reference))
    assert not pairs.logratios()[0].requires_grad
    with pytest.raises(ValueError, match="compares with a reference"):
        pairs_of_tokens((policy, policy), (mask, mask)).logratios()


def test_an_answer_without_tokens_has_a_mean_of_0():
    policy, mask = torch.full((1, 2), NAN), torch.zeros(1, 2)
    assert pairs_of_tokens((policy, policy), (mask, mask)).mean_logps()[0].tolist() == [0.0]
