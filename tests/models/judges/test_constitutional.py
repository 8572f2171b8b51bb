"""The constitutional judge: one principle for each prompt, or the mean over all; both orders in each."""

import pytest
from judge_support import RuleModel, enclosed, judge_by, oracle, pair

from alignflow.data.errors import DataError
from alignflow.data.principle_files import read_principles
from alignflow.data.records import user
from alignflow.models.judges.constitutional import drawn_principle

FILE = """
name: two
principles:
  - {name: short, text: The better answer is short., weight: 3}
  - {name: kind, text: The better answer is kind.}
"""


@pytest.fixture
def principles(tmp_path):
    (tmp_path / "two.yaml").write_text(FILE)
    return str(tmp_path / "two.yaml")


def test_an_oracle_reproduces_known_labels_in_both_orders(monkeypatch, new_run, principles):
    judge = judge_by(monkeypatch, RuleModel(oracle), "constitutional", new_run(), principles=principles)
    there, back = judge.compare([pair("x #1", "y #2"), pair("y #2", "x #1")])
    assert there.probability < 0.5 < back.probability and there.decided and back.decided
    assert there.principle == back.principle in ("short", "kind")


def test_a_principle_is_drawn_by_weight_and_stays_with_its_prompt(principles):
    found = read_principles(principles)
    drawn = [drawn_principle(found, 7, user(f"prompt {number}")).name for number in range(400)]
    assert 0.65 < drawn.count("short") / 400 < 0.85
    assert drawn == [drawn_principle(found, 7, user(f"prompt {number}")).name for number in range(400)]


def test_judged_by_each_the_label_is_the_weighted_mean_and_the_parts_are_kept(monkeypatch, new_run, principles):
    def read(text, options):
        likes = 0.8 if "The better answer is short." in text else 0.4
        first = enclosed(text, f"Answer {options[0]}") == "x"
        return (likes, 1 - likes) if first else (1 - likes, likes)

    judge = judge_by(monkeypatch, RuleModel(read), "constitutional", new_run(), principles=principles, mode="each")
    (verdict,) = judge.compare([pair("x", "y")])
    assert verdict.parts == {"short": pytest.approx(0.8), "kind": pytest.approx(0.4)}
    assert verdict.probability == pytest.approx((3 * 0.8 + 0.4) / 4) and verdict.masses == (pytest.approx(1.0),) * 2


def test_a_judge_of_one_seat_gives_exactly_one_half_by_each(monkeypatch, new_run, principles):
    model = RuleModel(lambda text, options: (0.9, 0.1))
    judge = judge_by(monkeypatch, model, "constitutional", new_run(), principles=principles, mode="each")
    (verdict,) = judge.compare([pair("x", "y")])
    assert verdict.probability == 0.5 and verdict.flips and not verdict.decided


def test_another_content_of_the_file_is_another_judge(monkeypatch, new_run, principles, tmp_path):
    def judge():
        return judge_by(monkeypatch, RuleModel(oracle), "constitutional", new_run(), principles=principles)

    before = judge().fingerprint
    assert before == judge().fingerprint
    (tmp_path / "two.yaml").write_text(FILE.replace("kind.", "warm."))
    assert before != judge().fingerprint


def test_a_file_that_is_not_there_is_named(monkeypatch, new_run):
    with pytest.raises(DataError, match="harmless"):
        judge_by(monkeypatch, RuleModel(oracle), "constitutional", new_run(), principles="harmles")
