"""Judges by name: the catalogue's, and a user's own class by import path."""

import pytest

from alignflow.data.catalogue import JUDGES
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.data.run import Run, Runtime
from alignflow.models.judges.base import Candidate, make_judge, own_source, sigmoid

OWN = """
from pydantic import Field
from alignflow.data.configs.base import StageConfig
from alignflow.models.judges.base import PointwiseJudge, sigmoid

class Options(StageConfig):
    letter: str = Field(default="e")

class Letters(PointwiseJudge):
    "Counts a letter."
    Options = Options

    def __init__(self, options, inputs):
        self.letter = options.letter

    def score(self, candidates):
        return [float(candidate.text.count(self.letter)) if candidate.text else None for candidate in candidates]

    def probability(self, first, second):
        return sigmoid(first - second)

class Nothing:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_judge_for_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_judge_for_test"


@pytest.fixture
def run(tmp_path):
    return Run(out=tmp_path, side=tmp_path, work=tmp_path, rows=tmp_path, runtime=Runtime())


def test_a_users_own_judge_is_named_by_its_import_path(own, run):
    judge = make_judge(
        JudgeConfig(name=f"{own}:Letters", options={"letter": "x"}), policy=None, reward_model=None, run=run
    )
    verdict, unlabelled = judge.compare(
        [(Candidate(user("?"), "xx"), Candidate(user("?"), "y")), (Candidate(user("?"), ""), Candidate(user("?"), "y"))]
    )
    assert verdict.scores == (2.0, 0.0) and verdict.probability == sigmoid(2.0)
    assert unlabelled.probability is None and unlabelled.scores == (None, 0.0) and unlabelled.reason == "no score"


def test_an_own_judge_is_known_by_its_source_and_a_built_in_one_by_its_version(own):
    assert own_source(f"{own}:Letters") and own_source("rubric") == ""


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("rubrik", {}, "'rubric'"),
        ("no_such_module_here:Judge", {}, "PYTHONPATH"),
        ("own_judge_for_test:Missing", {}, "Missing"),
        ("own_judge_for_test:Nothing", {}, "lacks compare"),
        ("own_judge_for_test:Letters", {"lettre": "x"}, "'letter'"),
        ("rubric", {"temperature": 0}, "judge.options.temperature"),
        ("reward_model", {}, "reward model"),
        ("llm", {}, "needs a model"),
    ],
)
def test_a_wrong_name_option_or_missing_model_is_the_recipes_error(own, run, name, options, named):
    with pytest.raises(RecipeError) as caught:
        make_judge(JudgeConfig(name=name, options=options), policy=None, reward_model=None, run=run)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_every_judge_of_the_catalogue_resolves_to_the_protocol(name):
    judge = JUDGES[name].resolve()
    assert isinstance(judge.pointwise, bool) and all(
        callable(getattr(judge, part)) for part in ("compare", "score", "details", "close")
    )


def test_sigmoid_is_a_half_at_zero_and_does_not_overflow():
    assert sigmoid(0.0) == 0.5 and sigmoid(1000.0) == 1.0 and sigmoid(-1000.0) == 0.0


@pytest.mark.parametrize("name", JUDGES)
def test_the_catalogue_says_which_judges_score_single_answers(name):
    row = JUDGES[name]
    assert row.resolve().pointwise is row.pointwise
