"""A row of preferences says who labelled it and how likely both orders found it, from the chosen answer's side."""

import pytest

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.records import PREFERENCES, read_table, user
from alignflow.models.judges.base import Verdict
from alignflow.models.judges.label_tables import LabelledPrompt, write_pairs
from alignflow.models.judges.pairing import JudgedPair

ROW = {"id": "p", "source": "t", "prompt": user("q"), "completions": ["one", "two"], "ended": [True, False]}


def written(verdict, run, **config):
    pair = JudgedPair(0, 1, verdict)
    labelled = LabelledPrompt(ROW, False, [None, None], [], [pair], [pair], {})
    statistics = write_pairs([labelled], LabelConfig(**config), run)
    return statistics, read_table(run.out / "preferences" / "train.parquet")


def test_both_orders_are_told_from_the_side_of_the_chosen_answer(new_run):
    _, (row,) = written(Verdict(0.8, orders=(0.9, 0.7)), new_run("a"))
    assert row["chosen"][0]["content"] == "one" and (row["p_given"], row["p_swapped"]) == (0.9, 0.7)
    _, (row,) = written(Verdict(0.2, orders=(0.1, 0.3)), new_run("b"))
    assert row["chosen"][0]["content"] == "two"
    assert (row["p_given"], row["p_swapped"]) == (pytest.approx(0.7), pytest.approx(0.9)), (
        "two stood first when it was swapped"
    )


def test_the_rationale_is_the_one_that_was_written_with_the_chosen_answer_first(new_run):
    _, (row,) = written(Verdict(0.2, orders=(0.1, 0.3), rationales=("B wins", "A wins")), new_run())
    assert row["rationale"] == "A wins" and row["chosen"][0]["content"] == "two"


def test_scores_have_no_orders_and_what_is_missing_is_null(new_run):
    _, (row,) = written(Verdict(0.8, scores=(2.0, 1.0), orders=(0.8, 0.8)), new_run())
    assert row["judge"] == "rubric" and row["soft_label"] == 0.8
    assert {row[name] for name in ("p_given", "p_swapped", "principle", "rationale", "weight", "confidence")} == {None}
    assert list(row) == PREFERENCES.names


def test_a_jury_has_one_number_and_no_orders(new_run):
    _, (row,) = written(Verdict(0.8, orders=(0.8, 0.8), parts={"disagreement": 0.1}), new_run())
    assert row["soft_label"] == 0.8 and row["p_given"] is row["p_swapped"] is None


def test_unsure_pairs_are_left_out_and_said(new_run):
    run = new_run()
    statistics, rows = written(Verdict(0.8, orders=(0.9, 0.7)), run, min_confidence=0.9)
    assert rows == [] and statistics["mixed"]["dropped"] == {"low confidence": 1} and statistics["pairs"]["train"] == 0
    assert run.warnings == ["1 pairs are below label.min_confidence 0.9 and were dropped"]
