"""Comparisons within a training: log-odds of verdicts and of scores, ties, and what a cut answer loses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.judges.base import IDENTICAL, Verdict
from alignflow.models.judges.comparing import (
    UNLABELLED,
    JudgeComparer,
    ScoreComparer,
    compared,
    logit,
    selected,
)
from alignflow.models.judges.pairing import FLIPPED, TIE
from alignflow.models.rewards.sources import Episode

ROW = {"id": "r", "prompt": [{"role": "user", "content": "?"}]}


def episodes(*answers):
    return [Episode(ROW, text, ended) for text, ended in answers]


class Judge:
    pointwise, closed = False, False

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)

    def compare(self, pairs):
        return self.verdicts

    def close(self):
        self.closed = True


class Rewards:
    names = ["one"]

    def __init__(self, *scores):
        self.scores = list(scores)

    def score(self, asked):
        return {"one": self.scores}

    def combine(self, parts):
        return parts["one"]


ANSWERS = episodes(("a", True), ("b", True), ("b", True), ("c", False))


def test_a_judges_verdicts_are_log_odds_and_a_flip_is_a_tie():
    verdicts = [
        Verdict(0.9),
        Verdict(0.7, orders=(0.9, 0.4)),
        Verdict(None, reason=IDENTICAL),
        Verdict(None, reason="no answer"),
        Verdict(1.0),
    ]
    pairs = [(0, 1), (0, 3), (1, 2), (2, 3), (1, 3)]
    found = JudgeComparer(Judge(*verdicts), "j").compare(ANSWERS, pairs)
    assert found.log_odds[0] == pytest.approx(math.log(9)) and found.log_odds[1:3] == [0.0, 0.0]
    assert math.isnan(found.log_odds[3]) and found.log_odds[4] == math.inf
    assert found.reasons == ["", FLIPPED, IDENTICAL, UNLABELLED, ""] and found.scores == {}


def test_scores_are_compared_by_their_difference_and_none_is_none():
    found = ScoreComparer(Rewards(1.0, 3.0, None, 3.0)).compare(ANSWERS, [(0, 1), (1, 3), (0, 2)])
    assert found.log_odds[:2] == [-2.0, 0.0] and math.isnan(found.log_odds[2])
    assert found.reasons == ["", "", UNLABELLED] and list(found.scores) == ["score", "scores/one"]


def test_a_tie_and_equal_answers_are_named():
    found = compared(ScoreComparer(Rewards(1.0, 1.0, 2.0, 0.0)), ANSWERS, [(0, 1), (1, 2), (0, 3)], None)
    assert found.reasons == [TIE, IDENTICAL, ""] and found.log_odds == [0.0, 0.0, 1.0]


def test_a_cut_answer_loses_the_penalty_before_the_comparison():
    scores = ScoreComparer(Rewards(1.0, 0.0, 0.0, 1.5))
    assert compared(scores, ANSWERS, [(0, 3), (3, 0)], 2.0).log_odds == [1.5, -1.5]
    certain = JudgeComparer(Judge(Verdict(0.0), Verdict(0.5, orders=(0.9, 0.1))), "j")
    found = compared(certain, ANSWERS, [(0, 3), (0, 3)], 20.0)
    assert found.log_odds[0] > 0 and found.log_odds[1] == 20.0 and found.reasons == ["", ""], "even against certainty"
    same = episodes(("b", True), ("b", False))
    assert compared(ScoreComparer(Rewards(1.0, 1.0)), same, [(0, 1)], 1.0).log_odds == [1.0]
    assert compared(ScoreComparer(Rewards(1.0, 1.0)), same, [(0, 1)], None).reasons == [IDENTICAL]


@given(st.floats(0, 1))
def test_log_odds_go_back_to_the_probability(probability):
    assert torch.tensor(logit(probability), dtype=torch.float64).sigmoid() == pytest.approx(probability, abs=1e-12)


def test_the_better_answer_is_selected_and_a_tie_or_nothing_is_not():
    winner, valid = selected(torch.tensor([1.0, -2.0, 0.0, math.nan, math.inf]))
    assert winner.tolist() == [0, 1, 0, 0, 0] and valid.tolist() == [True, True, False, False, True]
