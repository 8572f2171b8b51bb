"""The one sentence on top of a report, by stated rules."""

import pytest

from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.report import judge_report
from tests.data.judging.outcomes_support import outcome, rows_of


def concluded(right, wrong, *more, **known):
    outcomes = [outcome(1.0, 0.8)] * right + [outcome(1.0, 0.2)] * wrong
    return judge_report(rows_of([*outcomes, *more]), "judge", **known)["conclusion"]


@pytest.mark.parametrize(
    ("right", "wrong", "level", "words"),
    [
        (54, 46, "near_chance", "near chance: it agrees with 54% [44, 63] of 100 human preferences"),
        (30, 70, "near_chance", "worse than chance"),
        (64, 36, "weak", "weak: it agrees with 64%"),
        (80, 20, "usable", "can be used: it agrees with 80%"),
        (49, 0, "unknown", "49 human preferences are too few to say"),
    ],
)
def test_the_verdict_follows_the_interval_of_the_accuracy(right, wrong, level, words):
    found = concluded(right, wrong)
    assert found["level"] == level and words in found["text"]


def test_a_judge_of_one_seat_is_near_chance_without_any_gold():
    report = judge_report(rows_of([outcome(None, 0.98, 0.02)] * 20), "judge")
    assert report["conclusion"]["level"] == "near_chance"
    assert "first seat in 100% of 40 questions" in report["conclusion"]["text"]


def test_a_judge_of_the_second_seat_too():
    assert "second seat" in judge_report(rows_of([outcome(None, 0.02, 0.98)] * 20), "judge")["conclusion"]["text"]


def test_without_gold_and_without_a_seat_nothing_is_known():
    assert judge_report(rows_of([outcome(None, 0.9)] * 20), "judge")["conclusion"]["level"] == "unknown"


def test_a_judge_that_gives_no_label():
    found = judge_report([Outcome("p", None, reason="too long", gold=1.0)], "judge")["conclusion"]
    assert found["level"] == "no_labels" and "no label for any of 1 pairs" in found["text"]


def test_notes_say_what_else_is_to_be_known():
    silent = [Outcome("x", None, reason="reply not understood", gold=1.0)] * 20
    flipping = [outcome(1.0, 0.9, 0.3)] * 40
    notes = " ".join(concluded(80, 5, *silent, *flipping)["notes"])
    assert "no label for 14% of 145 pairs (reply not understood 20)" in notes and "change with the seats" in notes
