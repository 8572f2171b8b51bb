"""A judge or reward of the user's own is found before anything runs, and looking for it runs nothing."""

import pytest

from alignflow.data.errors import RecipeError
from alignflow.data.own_code import check_judge, check_reward

JUDGE = """
open({mark!r}, "w").write("it ran")
from alignflow.models.judges.base import PointwiseJudge
class Letters(PointwiseJudge):
    def score(self, candidates): return [1.0 for _ in candidates]
    def probability(self, first, second): return 0.5
class Half:
    def score(self, candidates): return []
Other = Letters
number = 5
def reward(prompt, completion, row): return 1.0
def single(prompt): return 1.0
short = lambda prompt, completion, row: 1.0
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_for_looks.py").write_text(JUDGE.format(mark=str(tmp_path / "mark")))
    (tmp_path / "again_for_looks.py").write_text("from mine_for_looks import Letters as Mine, reward\n")
    (tmp_path / "broken_for_looks.py").write_text("class Letters(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "mine_for_looks:Letters",
        "mine_for_looks:Other",
        "again_for_looks:Mine",
        "alignflow.models.judges.rubric:RubricJudge",
    ],
)
def test_a_judge_is_found_without_running_it(mine, name):
    check_judge(name, "label.judge.name")
    check_judge(f"{mine / 'mine_for_looks.py'}:Letters", "label.judge.name")
    assert not (mine / "mark").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("json:NoSuchClass", "defines no NoSuchClass"),
        ("os:system", "defines no system"),
        ("sys:exit", "no such Python module"),
        ("json:dumps", "not a class"),
        ("json:JSONDecoder", "lacks compare"),
        ("string:ascii_letters", "not a class"),
        ("nowhere:Judge", "no such Python module"),
        ("a b:c", "not of the form"),
        ("mine_for_looks:Half", "lacks compare, probability"),
        ("mine_for_looks:number", "not a class"),
        ("mine_for_looks:reward", "not a class"),
        ("broken_for_looks:Letters", "SyntaxError"),
        ("./nowhere.py:Judge", "check the path"),
        ("x" * 5000 + ":Judge", "characters)"),
        ("json:JSONDecodeError", "lacks compare"),
    ],
)
def test_what_is_no_judge_is_refused(mine, name, what):
    with pytest.raises(RecipeError) as error:
        check_judge(name, "label.judge.name")
    assert what in str(error.value) and str(error.value).startswith("label.judge.name") and not (mine / "mark").exists()


@pytest.mark.parametrize(
    "code", ["Made = make_judge()", "import fast\nMade = fast.Letters", "Made: type = KINDS['letters']"]
)
def test_a_judge_that_other_code_makes_is_left_to_the_stage(mine, code):
    (mine / "made_for_looks.py").write_text(code)
    check_judge("made_for_looks:Made", "here")


@pytest.mark.parametrize(
    "faster", ["from no_such_library_here import Letters", "from no_such_library_here import Fast\n    Letters = Fast"]
)
def test_a_judge_may_have_a_faster_version_that_is_not_installed(mine, faster):
    judge = JUDGE.format(mark=str(mine / "mark"))
    (mine / "faster_for_looks.py").write_text(f"{judge}try:\n    {faster}\nexcept ImportError:\n    pass\n")
    check_judge("faster_for_looks:Letters", "here")


@pytest.mark.parametrize("name", ["mine_for_looks:reward", "mine_for_looks:short", "again_for_looks:reward"])
def test_a_reward_is_found(mine, name):
    check_reward(name, "here")


@pytest.mark.parametrize(
    "name", ["os:system", "json:NoSuch", "mine_for_looks:number", "mine_for_looks:single", "mine_for_looks:Half"]
)
def test_what_is_no_reward_is_refused(mine, name):
    with pytest.raises(RecipeError):
        check_reward(name, "here")
    assert not (mine / "mark").exists()
