"""The checklist judge: points from the prompt alone, each answered yes or no, weighted."""

import pytest
from judge_support import RuleModel, enclosed, judge_by

from alignflow.data.records import user
from alignflow.models.judges.base import Candidate
from alignflow.models.judges.checklist import written_points

LIST = "Here are the points:\n[3] names Paris\n- [1] says why\n2. is polite\n[2] names Paris\n* ---\n"


def test_lines_with_a_mark_are_points_and_each_stands_once():
    assert [(point.text, point.weight) for point in written_points(LIST, 6)] == [
        ("names Paris", 3.0),
        ("says why", 1.0),
        ("is polite", 1.0),
    ]


@pytest.mark.parametrize(("line", "weight"), [("[9] x", 3.0), ("[0] x", 1.0), ("(2) x", 2.0), ("- x", 1.0)])
def test_weights_are_from_1_to_3(line, weight):
    assert [point.weight for point in written_points(line, 6)] == [weight]


def test_of_more_points_the_first_count_and_talk_is_none():
    assert len(written_points("- a\n- b\n- c", 2)) == 2 and written_points("I would look at style.", 6) == []


def judge(monkeypatch, run, write, **options):
    def read(text, _):
        kept = enclosed(text, "Point") in enclosed(text, "Answer")
        return (0.9, 0.1) if kept else (0.1, 0.9)

    model = RuleModel(read, write)
    return judge_by(monkeypatch, model, "checklist", run, **options), model


def test_the_score_is_the_weighted_share_of_yes_and_the_points_are_kept(monkeypatch, new_run):
    made, model = judge(monkeypatch, new_run(), lambda text, seed: "[3] Paris\n[1] because")
    found = made.assess([Candidate(user("capital?"), "Paris"), Candidate(user("capital?"), "because of Paris")])
    assert [each.score for each in found] == [pytest.approx((3 * 0.9 + 0.1) / 4), pytest.approx(0.9)]
    assert found[0].notes["checklist"][0] == {"point": "Paris", "weight": 3.0, "yes": pytest.approx(0.9)}
    assert len(model.written_questions) == 1, "one list for all answers to a prompt"
    assert "because of Paris" not in model.written_questions[0].messages[0]["content"]


def test_a_prompt_without_points_gives_no_score(monkeypatch, new_run):
    made, _ = judge(monkeypatch, new_run(), lambda text, seed: "I cannot.")
    (found,) = made.assess([Candidate(user("q"), "a")])
    assert found.score is None and found.reason == "no checklist written"


def test_fixed_points_need_no_writing(monkeypatch, new_run, tmp_path):
    (tmp_path / "points.yaml").write_text("name: p\nprinciples:\n  - {name: one, text: Paris}\n")
    made, model = judge(monkeypatch, new_run(), None, points=str(tmp_path / "points.yaml"))
    assert made.score([Candidate(user("q"), "Paris")]) == [pytest.approx(0.9)] and not model.written_questions
