"""TRL's columns: what test_formats.py has no row for."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.trl import parse

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_figures_of_a_pair_are_kept_and_missing_ones_are_none():
    (row,) = parse({**PAIR, "margin": "1.5", "soft_label": 0.8}, "preferences")
    assert (row["margin"], row["soft_label"], row["score_chosen"]) == (1.5, 0.8, None)


def test_whether_an_answer_ended_is_kept_where_the_row_says_it():
    (row,) = parse({**PAIR, "chosen_ended": "false"}, "preferences")
    assert row["chosen_ended"] is False and "rejected_ended" not in row
    (single,) = parse({"prompt": "q", "completion": "a", "label": True, "ended": 0}, "unpaired")
    assert single["ended"] is False


def test_several_answers_with_scores_give_the_widest_pair():
    (row,) = parse({"prompt": "q", "completions": ["a", "b"], "scores": [1, 3]}, "preferences")
    assert row["chosen"] == assistant("b") and row["margin"] == 2.0


def test_answers_without_scores_are_completions_that_ended():
    (row,) = parse({"prompt": "q", "completions": ["a", "b"]}, "completions")
    assert (row["prompt"], row["completions"], row["ended"]) == (user("q"), ["a", "b"], [True, True])
    (cut,) = parse({"prompt": "q", "completions": ["a", "b"], "ended": [True, False]}, "completions")
    assert cut["ended"] == [True, False]


@pytest.mark.parametrize("ended", [[True], "yes", [True, "perhaps"], [True, None]])
def test_ended_must_be_a_flag_for_each_answer(ended):
    with pytest.raises(RowError, match="not_a_boolean"):
        parse({"prompt": "q", "completions": ["a", "b"], "ended": ended}, "completions")


def test_prompt_and_completion_are_one_passage_of_text():
    assert parse({"prompt": "q", "completion": "a"}, "texts") == [{"text": "q\na"}]
    assert parse({"text": "one"}, "texts") == [{"text": "one"}]


def test_the_prompt_may_be_a_question_with_its_system_prompt():
    raw = {"system": "Be brief.", "question": "q", "chosen": "a", "rejected": "b"}
    (row,) = parse(raw, "preferences")
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, *user("q")] and row["chosen"] == assistant("a")


@pytest.mark.parametrize("name", ["completions", "responses", "answers"])
def test_answers_with_scores_give_their_widest_pair_under_any_name(name):
    (row,) = parse({"prompt": "q", name: ["a", "b", "c"], "scores": [1, 3, 2]}, "preferences")
    assert (row["chosen"], row["rejected"], row["margin"]) == (assistant("b"), assistant("a"), 2.0)
