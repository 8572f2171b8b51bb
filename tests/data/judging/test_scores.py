"""Scores of a judge against scores of people."""

import pytest

from alignflow.data.judging.scores import score_agreement


def gold(*scores):
    return [(str(place), [], "text", score) for place, score in enumerate(scores)]


def test_the_same_order_is_one_and_the_reverse_minus_one():
    same, reverse = score_agreement(gold(1, 2, 3, 4), [10, 20, 30, 40]), score_agreement(gold(1, 2, 3, 4), [4, 3, 2, 1])
    assert same["spearman"]["value"] == same["kendall"]["value"] == pytest.approx(1.0)
    assert reverse["spearman"]["value"] == reverse["kendall"]["value"] == pytest.approx(-1.0)


def test_answers_without_a_score_are_counted_and_not_guessed():
    found = score_agreement(gold(1, 2, 3), [1, None, 3])
    assert found["unscored"] == 1 and found["answers"] == 3 and found["spearman"]["count"] == 2


def test_a_judge_that_gives_all_the_same_score_has_no_correlation():
    assert score_agreement(gold(1, 2, 3), [5, 5, 5])["spearman"]["value"] is None


def test_without_gold_scores_there_is_nothing():
    assert score_agreement([], []) is None
