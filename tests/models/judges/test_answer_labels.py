"""Single answers of a labelling: who is good and who is bad, by rank or by score, and every other one counted under its reason."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alignflow.data.configs.generation import AnswerLabelsConfig
from alignflow.data.records import user
from alignflow.models.judges import answer_labels
from alignflow.models.judges.answer_labels import good_or_bad, ranking_row, scored_answers, unpaired_rows
from alignflow.models.judges.base import Verdict
from alignflow.models.judges.pairing import JudgedPair

BETWEEN, TIED, BOTH = answer_labels.BETWEEN, answer_labels.TIED, answer_labels.BOTH


def prompt(texts, scores, judged=(), ended=None):
    row = {"id": "p", "source": "s", "prompt": user("Why?"), "completions": texts, "ended": ended}
    return SimpleNamespace(row=row, scores=scores, judged=judged)


@pytest.mark.parametrize(
    ("scores", "best", "worst", "expected"),
    [
        ([0.1, 0.9, 0.5], 1, 1, [False, True, BETWEEN]),
        ([3.0, 1.0], 1, 1, [True, False]),
        ([2.0, 1.0, 1.0], 1, 1, [True, TIED, TIED]),
        ([2.0, 1.0, 1.0], 1, 2, [True, False, False]),
        ([1.0, 1.0], 1, 1, [TIED, TIED]),
        ([1.0], 1, 1, [BOTH]),
        ([3.0, 2.0, 1.0], 2, 2, [True, BOTH, False]),
        ([0.3, 0.1 + 0.2, 0.0], 1, 1, [TIED, TIED, False]),
        ([], 1, 1, []),
    ],
)
def test_by_rank_the_best_are_good_and_the_worst_bad(scores, best, worst, expected):
    assert good_or_bad(scores, AnswerLabelsConfig(best=best, worst=worst)) == expected


def test_by_score_two_limits_decide():
    config = AnswerLabelsConfig(by="score", good_at_least=0.7, bad_below=0.3)
    assert good_or_bad([0.7, 0.69, 0.3, 0.29], config) == [True, BETWEEN, BETWEEN, False]
    assert good_or_bad([0.5, 0.49], AnswerLabelsConfig(by="score")) == [True, False]


@given(st.lists(st.integers(-5, 5).map(float), max_size=8), st.integers(1, 4), st.integers(1, 4))
def test_no_good_answer_has_a_lower_score_than_a_bad_one_and_none_are_more_than_asked_for(scores, best, worst):
    found = good_or_bad(scores, AnswerLabelsConfig(best=best, worst=worst))
    good = [score for score, label in zip(scores, found, strict=True) if label is True]
    bad = [score for score, label in zip(scores, found, strict=True) if label is False]
    assert len(good) <= best and len(bad) <= worst
    assert not good or not bad or min(good) > max(bad)


@given(st.permutations([0.0, 1.0, 1.0, 2.0, 3.0]))
def test_the_order_of_a_prompts_answers_decides_nothing(scores):
    found = dict(zip(scores, good_or_bad(scores, AnswerLabelsConfig(best=2, worst=2)), strict=True))
    assert found == {3.0: True, 2.0: True, 1.0: TIED, 0.0: False}


@pytest.mark.parametrize(
    "options",
    [{"good_at_least": 0.9}, {"bad_below": 0.1}, {"by": "score", "best": 2}, {"by": "score", "bad_below": 0.6}],
)
def test_limits_that_are_not_read_or_cross_are_refused(options):
    with pytest.raises(ValidationError, match="is not read|must not be above"):
        AnswerLabelsConfig(**options)


def test_what_has_no_score_is_blank_or_contradicts_itself_is_left_out_and_counted():
    labelled = prompt(["a", "b", " ", "c", "c", "d", "d"], [1.0, None, 2.0, 3.0, 4.0, 5.0, 5.0])
    scored = scored_answers(labelled)
    assert scored.positions == [0, 5, 6] and scored.scores == [1.0, 5.0, 5.0]
    assert scored.dropped == {"no score": 1, "blank answer": 1, "same text with another score": 2}
    assert ranking_row(labelled, scored)["completions"] == ["a", "d", "d"]


def test_rows_of_good_and_bad_answers_and_each_other_answer_counted_once():
    labelled = prompt(["a", "b", "b", "c", ""], [1.0, 2.0, 2.0, 3.0, 9.0], ended=[True, True, True, False, True])
    rows, dropped = unpaired_rows(labelled, scored_answers(labelled), AnswerLabelsConfig())
    assert [(row["completion"][0]["content"], row["label"], row["ended"]) for row in rows] == [
        ("a", False, True),
        ("c", True, False),
    ]
    assert dropped == {"between good and bad": 1, "same text as another answer": 1, "blank answer": 1}
    assert len(rows) + sum(dropped.values()) == 5 and len({row["id"] for row in rows}) == 2


def test_copies_of_a_text_have_one_win_rate_over_all_their_pairs():
    judged = [
        JudgedPair(0, 1, Verdict(None, reason="identical")),
        JudgedPair(0, 2, Verdict(0.9)),
        JudgedPair(1, 2, Verdict(0.7)),
    ]
    scored = scored_answers(prompt(["a", "a", "b", "c"], [None] * 4, judged))
    assert scored.scores == pytest.approx([0.8, 0.8, 0.2]) and scored.dropped == {"no score": 1}
