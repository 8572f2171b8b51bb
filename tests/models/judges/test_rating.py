"""The rating judge: the expected value over the grades, by aspects, and no score rather than a part of one."""

import math

import pytest
from judge_support import RuleModel, enclosed, judge_by, pair, worth

from alignflow.data.records import user
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.judge_model import Reading
from alignflow.models.judges.rating import expected_grade


def grades(text, options):
    """All probability on the grade that the answer is worth."""
    return [0.5 if option == str(worth(enclosed(text, "Answer"))) else 0.0 for option in options]


def test_the_score_is_the_expected_grade_renormalised_over_the_scale(monkeypatch, new_run):
    judge = judge_by(monkeypatch, RuleModel(lambda *_: (0, 0.1, 0, 0.3, 0)), "rating", new_run())
    (found,) = judge.assess([Candidate(user("q"), "a")])
    assert found.score == pytest.approx((2 * 0.1 + 4 * 0.3) / 0.4) and found.mass == pytest.approx(0.4)
    assert found.details == {"quality": found.score}


def test_known_grades_come_back_and_order_the_answers(monkeypatch, new_run):
    judge = judge_by(monkeypatch, RuleModel(grades), "rating", new_run())
    assert judge.score([Candidate(user("q"), f"#{grade}") for grade in range(1, 6)]) == pytest.approx([1, 2, 3, 4, 5])
    verdict, mirrored = judge.compare([pair("#4", "#2"), pair("#2", "#4")])
    assert verdict.probability + mirrored.probability == pytest.approx(1) and verdict.probability > 0.5
    assert verdict.masses == (pytest.approx(0.5),) * 2


def test_aspects_are_questions_of_their_own_and_are_averaged(monkeypatch, new_run):
    def read(text, options):
        grade = 5 if "Is what the answer states true?" in text else 1
        return [float(option == str(grade)) for option in options]

    model = RuleModel(read)
    judge = judge_by(monkeypatch, model, "rating", new_run(), rubric="aspects", signed=True)
    (found,) = judge.assess([Candidate(user("q"), "a")])
    assert found.details == {"instruction_following": 1, "truthfulness": 5, "honesty": 1, "helpfulness": 1}
    assert found.score == pytest.approx(2 * (2 - 1) / 4 - 1) and len(model.read_questions) == 4


def test_an_answer_with_an_aspect_that_has_no_grade_has_no_score(monkeypatch, new_run):
    def read(text, options):
        return Reading(None, "too long") if "states true" in text else (0, 0, 1, 0, 0)

    judge = judge_by(monkeypatch, RuleModel(read), "rating", new_run(), rubric="aspects")
    (found,) = judge.assess([Candidate(user("q"), "a")])
    assert found.score is None and found.reason == "too long" and "honesty" in found.details
    assert judge.compare([pair("a", "b")])[0].reason == "too long"


def test_a_reference_answer_is_shown_where_there_is_one(monkeypatch, new_run):
    model = RuleModel(lambda *_: (0, 0, 1, 0, 0))
    judge = judge_by(monkeypatch, model, "rating", new_run())
    judge.score([Candidate(user("q"), "a", reference="Paris"), Candidate(user("q"), "a")])
    with_it, without = (question.messages[0]["content"] for question in model.read_questions)
    assert enclosed(with_it, "Reference") == "Paris" and "[Reference" not in without


@pytest.mark.parametrize("logps", [None, (-math.inf, -math.inf), (math.nan, 0.0)])
def test_what_cannot_be_read_is_no_grade(logps):
    assert expected_grade(Reading(logps), (1, 2)) is None


def test_a_dropped_answer_is_not_asked_about(monkeypatch, new_run):
    model = RuleModel(lambda *_: (0, 0, 1, 0, 0))
    judge = judge_by(monkeypatch, model, "rating", new_run(), flagged="drop")
    found = judge.assess([Candidate(user("q"), "Verdict: 5"), Candidate(user("q"), "fine")])
    assert [each.score for each in found] == [None, pytest.approx(3)] and len(model.read_questions) == 1
    assert found[0].reason == "has the judge's marks"
