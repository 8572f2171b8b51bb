"""One score from several: laws of the mean, the minimum and the mean minus the weighted variance."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.rewards.ensemble_scores import aggregate_scores, disagreement

RULES = ("mean", "min", "uncertainty")
SCORE = st.floats(-100, 100, allow_subnormal=False)


@st.composite
def ensembles(draw, least=1):
    """(members, answers) fp64 scores."""
    members, answers = draw(st.integers(least, 6)), draw(st.integers(1, 4))
    rows = st.lists(SCORE, min_size=answers, max_size=answers)
    return torch.tensor(draw(st.lists(rows, min_size=members, max_size=members)), dtype=torch.float64)


def same(one, other, tolerance=1e-9):
    return torch.allclose(one, other, rtol=1e-12, atol=tolerance, equal_nan=True)


def test_the_three_rules_by_hand():
    scores = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    assert aggregate_scores(scores, "mean").tolist() == [3.0, 2.0]
    assert aggregate_scores(scores, "min").tolist() == [1.0, 0.0]
    assert aggregate_scores(scores, "uncertainty", 0.5).tolist() == pytest.approx([3 - 0.5 * 8 / 3, 2 - 0.5 * 8])
    assert disagreement(scores).tolist() == pytest.approx([math.sqrt(8 / 3), math.sqrt(8)])


@given(ensembles(), st.sampled_from(RULES), st.floats(0, 10))
def test_members_that_agree_say_what_one_of_them_says(scores, rule, weight):
    alike = scores[:1].expand(5, -1)
    assert same(aggregate_scores(alike, rule, weight), scores[0])
    assert same(disagreement(alike), torch.zeros(scores.shape[1], dtype=torch.float64))


@given(ensembles(), st.sampled_from(RULES), st.floats(0, 10), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(scores, rule, weight, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    assert same(aggregate_scores(scores, rule, weight), aggregate_scores(scores[order], rule, weight))


@given(ensembles(), st.sampled_from(RULES), st.floats(0, 10), SCORE)
def test_a_constant_that_all_members_share_is_added_to_the_score(scores, rule, weight, constant):
    shifted = aggregate_scores(scores + constant, rule, weight)
    assert same(shifted, aggregate_scores(scores, rule, weight) + constant, 1e-7)


@given(ensembles(), st.floats(0, 10))
def test_no_rule_is_above_the_mean_and_none_but_uncertainty_below_the_minimum(scores, weight):
    mean, least = aggregate_scores(scores, "mean"), aggregate_scores(scores, "min")
    assert (least <= mean + 1e-9).all() and (aggregate_scores(scores, "uncertainty", weight) <= mean + 1e-9).all()


@given(ensembles())
def test_without_a_weight_uncertainty_is_the_mean(scores):
    assert same(aggregate_scores(scores, "uncertainty", 0.0), aggregate_scores(scores, "mean"))


@given(ensembles(), st.floats(0, 10), st.floats(0.01, 10))
def test_a_larger_weight_lowers_the_score_by_the_variance(scores, weight, more):
    lower, higher = (aggregate_scores(scores, "uncertainty", value) for value in (weight + more, weight))
    assert same(higher - lower, more * disagreement(scores).square(), 1e-6)


@given(ensembles(least=2), st.lists(SCORE, min_size=6, max_size=6))
def test_constants_of_their_own_change_only_a_constant_of_the_mean(scores, constants):
    """The loss of pairs leaves them free: they cannot change which of two answers the mean prefers."""
    own = torch.tensor(constants[: len(scores)], dtype=torch.float64)[:, None]
    change = aggregate_scores(scores + own, "mean") - aggregate_scores(scores, "mean")
    assert same(change, change[:1].expand_as(change), 1e-7)


def test_constants_of_their_own_can_turn_the_minimum_around():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    first = aggregate_scores(scores + torch.tensor([[-9.0], [0.0]]), "min")
    second = aggregate_scores(scores + torch.tensor([[0.0], [-9.0]]), "min")
    assert first[0] > first[1] and second[0] < second[1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_one_broken_member_is_not_hidden_by_the_others(rule, broken):
    scores = torch.tensor([[broken, 1.0], [2.0, 3.0]])
    found = aggregate_scores(scores, rule, 1.0)
    assert found[0].isnan() and found[1].isfinite()
    assert disagreement(scores)[0].isnan() and disagreement(scores)[1] == 1


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_of_any_width_are_combined_in_fp64(kind):
    scores = torch.full((3, 2), 60_000.0).to(kind)
    assert aggregate_scores(scores, "mean").dtype == disagreement(scores).dtype == torch.float64
    assert same(aggregate_scores(scores, "mean"), scores[0].double()), "a sum in half precision would be infinite"


def test_no_members_and_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="members"):
        aggregate_scores(torch.empty(0, 3), "mean")
    with pytest.raises(ValueError, match="median"):
        aggregate_scores(torch.ones(2, 3), "median")
