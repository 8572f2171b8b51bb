"""Win rates: ties, answers without a label, and what counts apart."""

import pytest

from alignflow.data.configs.generation import JudgeConfig
from alignflow.models.evaluators.win_rate import flagged, judge_name, outcome, summary
from alignflow.models.judges.base import IDENTICAL, Candidate, Verdict


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        (Verdict(0.8), 1.0),
        (Verdict(0.2), 0.0),
        (Verdict(0.5), 0.5),
        (Verdict(0.506, orders=(0.912, 0.1)), 0.5),
        (Verdict(None, reason=IDENTICAL), 0.5),
        (Verdict(None, reason="no answer"), None),
    ],
)
def test_ties_and_equal_answers_count_half_and_no_label_not_at_all(verdict, value):
    assert outcome(verdict) == value


def test_a_win_rate_counts_apart_what_has_no_label():
    found = summary(
        [Verdict(0.9, orders=(0.9, 0.8)), Verdict(0.9, orders=(0.7, 0.4)), Verdict(0.5), Verdict(None, reason="x")],
        0.95,
    )
    assert (found["wins"], found["ties"], found["losses"], found["no_label"]) == (1, 2, 0, 1), (
        "one preference changes with the order"
    )
    assert found["win_rate"] == pytest.approx(2 / 3) and found["flip_rate"] == 0.5


def test_a_win_rate_holds_how_much_of_the_judges_probability_lay_on_its_options():
    found = summary([Verdict(0.9, masses=(0.8, 0.6)), Verdict(None, reason="not finite", masses=(0.0, 0.2))], 0.95)
    assert found["option_mass"]["mean"] == pytest.approx(0.4) and found["option_mass"]["count"] == 4
    assert "option_mass" not in summary([Verdict(0.9)], 0.95)


def test_answers_with_marks_of_the_judges_own_are_counted_for_each_model():
    class Reader:
        def flags(self, candidates):
            return [["verdict"] if "verdict" in candidate.text else [] for candidate in candidates]

    asked = [(Candidate([], "verdict: me"), Candidate([], "b")), (Candidate([], "c"), Candidate([], "d"))]
    assert flagged(Reader(), asked) == {"aligned": 1, "sft": 0} and flagged(object(), asked) is None


def test_two_rubrics_have_two_names():
    assert judge_name(JudgeConfig()) == "rubric:helpful"
    assert judge_name(JudgeConfig(options={"constitution": "a/reader.yaml"})) == "rubric:reader"
    assert judge_name(JudgeConfig(name="llm")) == "llm"
