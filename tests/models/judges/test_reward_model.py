"""The reward-model judge: Bradley-Terry on the scores, and a broken score is no label."""

import math

import pytest

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.records import user
from alignflow.data.run import Run, Runtime
from alignflow.models.judges import reward_model
from alignflow.models.judges.base import Candidate, make_judge


class Scores:
    def score(self, rows):
        return [{"nan": math.nan}.get(text, float(len(text))) for messages, text, ended in rows]


@pytest.fixture
def judge(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(reward_model, "load_scorer", lambda path, runtime: loaded.append(path) or Scores())
    run = Run(out=tmp_path, side=tmp_path, work=tmp_path, rows=tmp_path, runtime=Runtime())
    made = make_judge(JudgeConfig(name="reward_model"), policy=None, reward_model=tmp_path / "rm", run=run)
    assert loaded == [tmp_path / "rm"]
    return made


def test_the_probability_is_bradley_terrys(judge):
    verdict = judge.compare([(Candidate(user("?"), "three"), Candidate(user("?"), "two"))])[0]
    assert verdict.scores == (5.0, 3.0) and verdict.probability == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_score_of_zero_is_a_score_and_nan_is_none(judge):
    zero, broken = judge.compare(
        [
            (Candidate(user("?"), ""), Candidate(user("?"), "a")),
            (Candidate(user("?"), "nan"), Candidate(user("?"), "a")),
        ]
    )
    assert zero.scores == (0.0, 1.0) and zero.probability < 0.5
    assert broken.probability is None and broken.reason == "no score"
