"""Several answers to a prompt: where scores come from, and which pair a ranking gives."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.comparison import best_and_worst, parse, scored


def test_scores_stand_in_a_list_or_beside_each_answer_or_are_ranks():
    answers = ["a", "b"]
    assert scored({"prompt": "q", "responses": answers, "scores": [1, "2"]})[2] == [1.0, 2.0]
    assert scored({"prompt": "q", "responses": answers, "ranks": [1, 2]})[2] == [-1.0, -2.0]
    rated = [{"text": "a", "rating": 3}, {"text": "b", "rating": 4}]
    assert scored({"prompt": "q", "responses": rated}) == (user("q"), answers, [3.0, 4.0])


def test_answers_of_output_count_down_and_others_without_scores_are_refused():
    assert scored({"prompt": "q", "output": ["a", "b", "c"]})[2] == [3.0, 2.0, 1.0]
    with pytest.raises(RowError, match="no_scores"):
        scored({"prompt": "q", "responses": ["a", "b"]})


@pytest.mark.parametrize(
    ("scores", "reason"), [([1, None], "no_scores"), ([1, True], "no_scores"), ([1, float("nan")], "not_finite")]
)
def test_an_answer_that_was_not_scored_drops_the_row(scores, reason):
    with pytest.raises(RowError, match=reason):
        scored({"prompt": "q", "responses": ["a", "b"], "scores": scores})


def test_the_widest_pair_is_taken_with_its_figures():
    row = best_and_worst(user("q"), ["a", "b", "c"], [2.0, 5.0, 1.0])
    assert row["chosen"] == assistant("b") and row["rejected"] == assistant("c")
    assert (row["margin"], row["score_chosen"], row["score_rejected"]) == (4.0, 5.0, 1.0)


def test_the_best_answer_is_a_demonstration_and_the_prompt_a_prompt():
    raw = {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2]}
    assert parse(raw, "demonstrations") == [{"messages": [*user("q"), *assistant("b")]}]
    assert parse(raw, "prompts")[0]["prompt"] == user("q")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"responses": ["a", "b"], "scores": [1, 2], "ranks": [2, 1]}, [1.0, 2.0]),
        ({"responses": ["a", "b"], "scores": [2, 2], "ranks": [2, 1]}, [2.0, 2.0]),
        ({"responses": ["a", "b"], "scores": [1, 2], "ranks": ["x", "y"]}, [1.0, 2.0]),
        ({"responses": ["a", "a "], "scores": [2, 2]}, [2.0, 2.0]),
        ({"responses": ["a", "b"], "scores": [1, 2], "ranks": [0, 1]}, None),
        ({"responses": [{"text": "a", "score": 1, "rank": 1}, {"text": "b", "score": 2, "rank": 2}]}, None),
        ({"responses": ["a", "b", "a"], "scores": [1, 2, 3]}, None),
    ],
)
def test_ranks_beside_scores_and_equal_answers_must_not_say_the_contrary(row, wanted):
    """Whether lower or higher is better nothing else says."""
    if wanted is None:
        with pytest.raises(RowError, match="scores_disagree"):
            scored({"prompt": "q", **row})
    else:
        assert scored({"prompt": "q", **row})[2] == wanted
