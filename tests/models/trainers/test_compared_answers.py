"""Which pairs of an update teach: the better answer first, and a reason for every pair that does not."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.batching import EncodedRow
from alignflow.models.judges.comparing import UNLABELLED, Comparison
from alignflow.models.judges.pairing import BLANK, TIE, all_pairs
from alignflow.models.rollouts import Rollouts
from alignflow.models.trainers.compared_answers import (
    CONTRADICTED,
    REASONS,
    ComparedAnswers,
    duels,
    joined,
    ordered_pairs,
    planned,
)

NAN = math.nan


def settled(log_odds, pairs, texts, per_prompt, reasons=None):
    found = ordered_pairs(Comparison(log_odds, reasons or [""] * len(pairs)), pairs, texts, per_prompt)
    return found[0].tolist(), found[1].tolist(), [REASONS[number] for number in found[2].tolist()]


def test_all_own_answers_meet_or_each_meets_the_opponents():
    assert planned(4, 4, 2) == [(0, 1), (2, 3)] and planned(2, 4, 1) == [(0, 2), (1, 3)]
    assert planned(3, 3, 3) == [(0, 1), (0, 2), (1, 2)]


def test_the_better_answer_stands_first():
    pairs, odds, reasons = settled([1.0, -2.0, -math.inf], [(0, 1), (2, 3), (4, 5)], list("abcdef"), 1)
    assert pairs == [[0, 1], [3, 2], [5, 4]] and odds == [1.0, 2.0, math.inf] and reasons == ["", "", ""]


def test_a_blank_answer_is_never_the_better_one():
    _, _, reasons = settled([1.0, -1.0], [(0, 1), (2, 3)], [" ", "b", " ", "d"], 1)
    assert reasons == [BLANK, ""]


def test_of_several_the_highest_win_rate_meets_the_lowest():
    pairs, odds, reasons = settled([-1.0, 2.0, 3.0], all_pairs(3), list("abc"), 3)
    assert pairs == [[1, 2]] and odds == [3.0] and reasons == [""]
    _, _, reasons = settled([0.0, 0.0, 0.0], all_pairs(3), list("abc"), 3, [TIE] * 3)
    assert reasons == [TIE]
    _, _, reasons = settled([NAN, NAN, NAN], all_pairs(3), list("abc"), 3, [UNLABELLED] * 3)
    assert reasons == [UNLABELLED]


def test_a_pair_whose_verdict_is_against_the_win_rates_teaches_nothing():
    """0 beats 1 by much and 1 beats 2, but 2 beats 0 a little: 0 has the highest rate and 2 the lowest."""
    _, odds, reasons = settled([4.0, -0.1, 4.0], all_pairs(3), list("abc"), 3)
    assert odds[0] < 0 and reasons == [CONTRADICTED]


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3, unique=True))
def test_by_scores_the_pair_is_that_of_the_extremes(scores):
    odds = [scores[first] - scores[second] for first, second in all_pairs(3)]
    pairs, found, reasons = settled(odds, all_pairs(3), list("abc"), 3, [TIE if not value else "" for value in odds])
    best, worst = (scores.index(pick(scores)) for pick in (max, min))
    if min(abs(value) for value in odds) > 1e-6:
        assert pairs == [[best, worst]] and found[0] > 0 and reasons == [""]


def test_a_duel_without_a_verdict_is_left_out_and_a_tie_is_not():
    _, odds, reason = duels(Comparison([0.0, NAN, 1.0], [TIE, UNLABELLED, ""]), [(0, 3), (1, 4), (2, 5)])
    assert [REASONS[number] for number in reason.tolist()] == ["", UNLABELLED, ""] and odds[1].isnan()


def test_of_joined_answers_the_engines_log_probabilities_are_those_of_the_policys_own():
    own = Rollouts(
        torch.tensor([0]), [EncodedRow((1,), (3, 4))], torch.tensor([True]), torch.tensor([-1.0, -2.0]), {"probe": 0.5}
    )
    other = Rollouts(torch.tensor([0]), [EncodedRow((1,), (5,))], torch.tensor([True]))
    both = joined(own, other)
    assert both.behaviour_logps[:2].tolist() == [-1.0, -2.0] and both.behaviour_logps[2:].isnan().tolist() == [True]
    assert both.figures == {"probe": 0.5} and joined(own, None).behaviour_logps.tolist() == [-1.0, -2.0]
    assert joined(other, other).behaviour_logps is None


def test_answers_come_back_from_their_tensors():
    own = Rollouts(torch.tensor([0]), [EncodedRow((1, 2), (3,))], torch.tensor([True]))
    other = Rollouts(torch.tensor([0]), [EncodedRow((1, 2), (4, 5))], torch.tensor([False]))
    both, flat = joined(own, other), torch.arange(3.0)
    assert joined(own, None).rows == own.rows and both.rows == own.rows + other.rows
    pairs, odds, reason = duels(Comparison([0.5], [""]), [(0, 1)])
    answers = ComparedAnswers(both, 1, flat, flat, flat, pairs, odds, reason, {"score": torch.tensor([1.0, NAN])})
    again = ComparedAnswers.from_tensors(answers.tensors(), ["score"])
    assert again.rollouts.rows == both.rows and again.own == 1 and again.kept == [0]
    assert all(
        torch.equal(value, again.tensors()[name]) for name, value in answers.tensors().items() if "score" not in name
    )
