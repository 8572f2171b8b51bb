"""Advantages within groups: by hand, and the laws that hold for any scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.policy_gradient import GRPOOptions, ReinforcePPBaselineOptions, RLOOOptions
from alignflow.models.advantages import RewardBatch, reinforce_pp_advantages, whiten
from alignflow.models.group_advantages import (
    dr_grpo_advantages,
    group_centred,
    group_figures,
    group_normalised,
    grpo_advantages,
    leave_one_out,
    reinforce_pp_baseline_advantages,
    rloo_advantages,
)

ALL = torch.ones(4, dtype=torch.bool)
GROUPS = torch.tensor([0, 0, 1, 1])


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=tolerance)


def test_by_hand():
    """1 and 3: each less the other, -2 and 2; less the mean, -1 and 1; over the sample deviation sqrt 2. Equal scores: 0."""
    scores = tensor(1, 3, 5, 5)
    close(leave_one_out(scores, GROUPS, ALL), [-2, 2, 0, 0])
    close(group_centred(scores, GROUPS, ALL), [-1, 1, 0, 0])
    close(group_normalised(scores, GROUPS, ALL), [-1 / (2**0.5 + 1e-4), 1 / (2**0.5 + 1e-4), 0, 0])


def test_an_answer_without_a_score_is_in_no_group():
    """Of the second group one answer is left: there is nothing to compare it with."""
    scores, known = tensor(1, 3, float("nan"), 7), torch.tensor([True, True, False, True])
    found = group_figures(scores, GROUPS, known)
    assert found.counts.tolist() == [2, 2, 1, 1] and found.means.tolist() == [2, 2, 7, 7]
    assert found.equal.tolist() == [False, False, True, True]
    for estimate in (leave_one_out, group_centred, group_normalised):
        assert estimate(scores, GROUPS, known)[2:].tolist() == [0, 0]


@pytest.mark.parametrize("estimate", [leave_one_out, group_centred, group_normalised])
def test_equal_scores_give_exactly_0_where_their_mean_is_rounded(estimate):
    scores = torch.full((3,), 0.1, dtype=torch.float32)
    assert estimate(scores, torch.zeros(3, dtype=torch.long), torch.ones(3).bool()).tolist() == [0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12),
    groups=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_advantages_sum_to_zero_per_prompt(scores, groups):
    values, numbers = tensor(*scores), torch.tensor(groups[: len(scores)])
    known = torch.ones(len(scores), dtype=torch.bool)
    for estimate in (leave_one_out, group_centred, group_normalised):
        found = estimate(values, numbers, known)
        for number in numbers.unique():
            assert abs(float(found[numbers == number].sum())) <= 1e-9 * (1 + float(values.abs().max()))


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_leave_one_out_is_each_score_less_the_mean_of_the_others(scores):
    values, count = tensor(*scores), len(scores)
    found = leave_one_out(values, torch.zeros(count, dtype=torch.long), torch.ones(count).bool())
    others = torch.stack([torch.cat([values[:place], values[place + 1 :]]).mean() for place in range(count)])
    close(found, torch.where(values == values[0], values, values) - others, 1e-9)


def rewards():
    """Two answers to one prompt, of two tokens and one: the KL on each token, the score on the last."""
    return RewardBatch(
        torch.tensor([[-0.5, 2.0], [1.0, float("nan")]]),
        None,
        torch.tensor([[True, True], [True, False]]),
        torch.zeros(2, dtype=torch.long),
    )


def test_the_estimators_put_an_answers_number_on_each_of_its_tokens():
    """Sums of token rewards: 1.5 and 1, so the KL is inside of the baseline."""
    close(rloo_advantages(rewards(), RLOOOptions()).advantages, [[0.5, 0.5], [-0.5, 0.0]])
    close(dr_grpo_advantages(rewards(), GRPOOptions()).advantages, [[0.25, 0.25], [-0.25, 0.0]])
    scaled = 0.25 / (0.5 / 2**0.5 + 1e-4)
    close(grpo_advantages(rewards(), GRPOOptions()).advantages, [[scaled, scaled], [-scaled, 0.0]], 1e-6)


def test_reinforce_pp_normalises_over_all_tokens():
    """With the baseline by n - 1; rewards to go 1.5, 2, 1 by n: mean 1.5, squares 0.5 / 3."""
    found = reinforce_pp_baseline_advantages(rewards(), ReinforcePPBaselineOptions()).advantages
    centred = torch.tensor([[0.25, 0.25], [-0.25, 0.0]])
    close(found, whiten(centred, rewards().mask), 1e-6)
    found = reinforce_pp_advantages(rewards(), ReinforcePPBaselineOptions()).advantages
    deviation = (0.5 / 3 + 1e-8) ** 0.5
    close(found, [[0.0, 0.5 / deviation], [-0.5 / deviation, 0.0]], 1e-6)
