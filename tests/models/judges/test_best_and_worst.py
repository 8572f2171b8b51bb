"""The best and the worst answer to a prompt, and their win rates over all samples, themselves included."""

from types import SimpleNamespace

import pytest

from alignflow.data.records import user
from alignflow.models.judges.base import IDENTICAL, Verdict
from alignflow.models.judges.best_and_worst import CLOSE, FEW, extreme_places, extremes, win_rates_with_itself
from alignflow.models.judges.pairing import TIE, JudgedPair, planned_pairs


def prompt(texts, judged, scores=None):
    row = {"id": "p", "source": "s", "prompt": user("Why?"), "completions": texts, "ended": None}
    pairs = [JudgedPair(one, other, verdict) for one, other, verdict in judged]
    return SimpleNamespace(row=row, scores=scores or [None] * len(texts), judged=pairs)


def says(probability):
    return Verdict(probability, orders=(probability, probability))


CIRCLE = [(0, 1, says(0.9)), (1, 2, says(0.8)), (0, 2, says(0.3))]


def test_a_win_rate_is_the_mean_over_all_samples_with_one_half_for_itself():
    rates = win_rates_with_itself(prompt(["a", "b", "c"], CIRCLE))
    assert rates == pytest.approx([(0.5 + 0.9 + 0.3) / 3, (0.5 + 0.1 + 0.8) / 3, (0.5 + 0.2 + 0.7) / 3])
    assert sum(rates) / 3 == pytest.approx(0.5), "against its own samples a policy wins half"


def test_copies_meet_at_one_half_and_pairs_without_a_label_do_not_count():
    copies = [(0, 1, Verdict(None, reason=IDENTICAL)), (0, 2, says(1.0)), (1, 2, says(1.0))]
    assert win_rates_with_itself(prompt(["a", "a", "c"], copies)) == pytest.approx([2 / 3, 2 / 3, 0.5 / 3])
    unknown = [(0, 1, Verdict(None, reason="no score")), (0, 2, says(1.0))]
    assert win_rates_with_itself(prompt(["a", "b", "c"], unknown)) == [0.75, 0.5, 0.25]


def test_win_rates_decide_for_a_pairwise_judge_and_scores_for_a_pointwise_one():
    assert extremes(prompt(["a", "b", "c"], CIRCLE)) == (0, 1)
    assert extremes(prompt(["a", "b", "c"], CIRCLE, [1.0, 0.0, 2.0])) == (2, 1)


def test_equal_scores_discard_the_prompt_and_so_do_win_rates_that_are_too_near():
    assert extremes(prompt(["a", "b"], [(0, 1, says(0.5))], [3.0, 3.0])) == TIE
    assert extremes(prompt(["a", "b", "c"], CIRCLE), gap=0.2) == CLOSE
    assert extremes(prompt(["a", " "], [(0, 1, says(0.9))])) == FEW
    assert extreme_places([2.0, 5.0, 5.0, 1.0, 1.0]) == (1, 3) and extreme_places([1.0, 1.0]) is None


def test_all_pairs_of_five_are_asked_where_win_rates_are_learnt_from():
    assert len(planned_pairs(5, 0, "p", 64)) == 10 and len(planned_pairs(8, 0, "p", 64)) == 28
    assert len(planned_pairs(8, 0, "p")) == 16


def test_copies_have_one_win_rate_even_where_they_met_others_and_none_is_preferred_to_another():
    texts, beats = ["a", "a", "a", "b", "c", "b"], {("a", "b"), ("b", "c"), ("c", "a")}
    for seed in range(50):
        judged = [
            (one, other, says(0.9 if (texts[one], texts[other]) in beats else 0.1))
            if texts[one] != texts[other]
            else (one, other, Verdict(None, reason=IDENTICAL))
            for one, other in planned_pairs(len(texts), seed, "p")
        ]
        asked = prompt(texts, judged)
        found = extremes(asked)
        assert found == TIE or texts[found[0]] != texts[found[1]]
        assert len(set(win_rates_with_itself(asked)[:3])) == 1


def test_win_rates_exactly_as_far_apart_as_asked_are_far_enough():
    apart = prompt(["a", "b"], [(0, 1, says(0.7))])
    rates = win_rates_with_itself(apart)
    assert rates[0] - rates[1] < 0.2 and extremes(apart, gap=0.2) == (0, 1), "rounding in fp64 drops no prompt"
