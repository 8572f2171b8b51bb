"""The rubric judge and its constitutions: weighted means, ties, and errors that name file and field."""

import subprocess
import sys

import pytest

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.constitution import constitution_files
from alignflow.data.errors import DataError, RecipeError
from alignflow.data.records import user
from alignflow.data.run import Run, Runtime
from alignflow.models.judges.base import Candidate, make_judge
from alignflow.models.judges.rubric import load_constitution, shared_principles

YAML = """
name: short
description: Short and finished.
principles:
  - {name: brief, kind: length_window, weight: 3, options: {minimum: 2, maximum: 4}}
  - {name: finished, kind: ends_properly}
"""


@pytest.fixture
def constitution(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
def run(tmp_path):
    return Run(out=tmp_path / "out", side=tmp_path, work=tmp_path, rows=tmp_path / "rows", runtime=Runtime())


def judge_of(path, run, **options):
    return make_judge(
        JudgeConfig(name="rubric", options={"constitution": str(path), **options}),
        policy=None,
        reward_model=None,
        run=run,
    )


def test_the_score_is_the_weighted_mean_of_the_principles(constitution, run):
    judge = judge_of(constitution, run)
    candidate = Candidate(user("Hi"), "one", ended=True)
    assert judge.details([candidate]) == [{"brief": 0.5, "finished": 0.5}]
    assert judge.score([Candidate(user("Hi"), "one", ended=False)]) == [pytest.approx((3 * 0.5 + 0) / 4)]


def test_a_principle_with_a_veto_multiplies_the_mean_and_leaves_a_twentieth(tmp_path, run):
    path = tmp_path / "veto.yaml"
    path.write_text(
        "name: v\nprinciples:\n  - {name: finished, kind: ends_properly}\n  - {name: harmless, kind: no_harm, veto: true}\n"
    )
    judge = judge_of(path, run)
    texts = ["We sat.", "We stab him.", "We stab, maim, murder, torture."]
    assert judge.score([Candidate(user("Hi"), text) for text in texts]) == [
        pytest.approx(score) for score in (1.0, 0.25, 0.05)
    ]


def test_equal_scores_are_a_tie_of_exactly_one_half(constitution, run):
    verdict = judge_of(constitution, run).compare(
        [(Candidate(user("Hi"), "one two."), Candidate(user("Hi"), "two one."))]
    )[0]
    assert verdict.probability == 0.5 and verdict.scores == (1.0, 1.0)


def test_a_difference_by_rounding_alone_is_a_tie(constitution, run, monkeypatch):
    judge = judge_of(constitution, run)
    monkeypatch.setattr(judge, "score", lambda candidates: [0.1 + 0.2, 0.3])
    assert judge.compare([(Candidate(user("Hi"), "a"), Candidate(user("Hi"), "b"))])[0].probability == 0.5


def test_identical_texts_get_no_label(constitution, run):
    verdict = judge_of(constitution, run).compare([(Candidate(user("Hi"), "same."), Candidate(user("Hi"), "same."))])[0]
    assert verdict.probability is None and verdict.reason == "identical"


def test_the_verdict_mirrors_with_the_pair(constitution, run):
    judge = judge_of(constitution, run, temperature=0.2)
    good, bad = Candidate(user("Hi"), "one two."), Candidate(user("Hi"), "one", ended=False)
    there, back = judge.compare([(good, bad), (bad, good)])
    assert there.probability > 0.5 and there.probability + back.probability == pytest.approx(1.0)
    assert there.orders == (there.probability, there.probability)


def test_a_lexicon_is_found_beside_the_constitution_and_belongs_to_its_files(tmp_path):
    (tmp_path / "bad.txt").write_text("zorp\n")
    path = tmp_path / "c.yaml"
    path.write_text("name: c\nprinciples: [{name: clean, kind: forbidden_content, options: {lexicon: bad.txt}}]\n")
    assert load_constitution(str(path)).details(Candidate(user("Hi"), "Zorp!")) == {"clean": 0.5}
    assert constitution_files(str(path)) == [path, tmp_path / "bad.txt"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("principles: [", "YAML"),
        ("- a\n- b", "mapping"),
        ("name: x", "principles"),
        ("name: x\nprinciples: []", "principles"),
        ("name: x\nprinciple: []", "'principles'"),
        ("name: x\nprinciples: [{name: a, kind: lenght_window}]", "'length_window'"),
        ("name: x\nprinciples: [{name: a, kind: language, wieght: 2}]", "'weight'"),
        ("name: x\nprinciples: [{name: a, kind: language, weight: 0}]", "principles.0.weight"),
        ("name: x\nprinciples: [{name: a, kind: length_window, options: {minimun: 2}}]", "'minimum'"),
        ("name: x\nprinciples: [{name: a, kind: length_window, options: {minimum: many}}]", "options.minimum"),
        ("name: x\nprinciples: [{name: a, kind: language}, {name: a, kind: vocabulary}]", "'a'"),
        ("name: x\nprinciples: [{name: a, kind: sentiment, options: {lexicon: none.tsv}}]", "none.tsv"),
        ("name: x\nprinciples: [{name: a, kind: language, veto: true, weight: 2}]", "has no weight"),
        ("name: x\nprinciples: [{name: a, kind: language, veto: true}]", "every principle has a veto"),
    ],
)
def test_a_broken_constitution_is_refused_by_file_and_field(tmp_path, text, named):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_constitution(str(path))
    assert named in str(caught.value) and str(tmp_path) in str(caught.value)


def test_an_unknown_constitution_lists_the_built_in_ones():
    with pytest.raises(DataError, match="helpful, reader"):
        load_constitution("helpfull")


def test_the_built_in_constitutions_load_and_share_no_principle():
    assert shared_principles(load_constitution("helpful"), load_constitution("reader")) == []


def test_constitutions_that_share_a_kind_say_so(constitution):
    assert "length_window" in shared_principles(load_constitution("helpful"), load_constitution(str(constitution)))


def test_a_misspelt_option_names_the_right_one(constitution, run):
    with pytest.raises(RecipeError, match="temperature"):
        judge_of(constitution, run, temprature=1)


def test_the_rubric_needs_no_torch():
    program = "import sys, alignflow.models.judges.rubric; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, timeout=60).returncode
        == 0
    )
