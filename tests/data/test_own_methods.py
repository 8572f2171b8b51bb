"""A loss of the user's own is a method: what it learns from is read from its file, of which nothing runs before the training."""

import sys

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.loading import changed_recipe, parse_recipe
from alignflow.data.errors import RecipeError
from alignflow.data.own_methods import OwnMethod, loaded_method, method, method_row, step_function
from alignflow.flows.graph import nodes

HEAD = """
from pydantic import Field
from alignflow.models.losses import LossOutput, StageConfig, method

class Options(StageConfig):
    beta: float = Field(default=0.1, gt=0, le=10, description="Factor.")
"""
LOSS = HEAD + "{above}\ndef mine(batch, options):\n    '''Says what it is.\n\n    And more.\n    '''\n"
PLAIN = '@method(family="unpaired", options=Options, needs_reference=False, needs=["logps", "entropy"])'


@pytest.fixture
def written(tmp_path):
    """Write a file with a decorator above its loss, and a line that leaves a mark when it runs; returns the loss's name."""

    def write(above=PLAIN, text=LOSS, name="mine"):
        file = tmp_path / f"file{len(list(tmp_path.glob('*.py')))}.py"
        mark = f"open({str(tmp_path / 'mark')!r}, 'w').close()\n"
        file.write_text(mark + text.replace("{above}", above))
        return f"{file}:{name}"

    yield write
    assert not (tmp_path / "mark").exists(), "the file was run"


def test_its_row_says_what_the_decorator_says_and_the_rest_is_a_rows_default(written):
    row = method_row(name := written())
    assert isinstance(row, OwnMethod) and (row.address, row.family, row.needs_reference) == (name, "unpaired", False)
    assert row.needs == ("logps", "entropy") and row.summary == "Says what it is." and "And more." in row.docstring
    assert row.learns_from() is catalogue.FAMILIES["unpaired"] and row.step_reads == "logps" and not row.teacher
    assert catalogue.parse_options(row, {"beta": 2.0}, "align.options").beta == 2.0


def test_a_name_of_the_catalogue_is_its_row():
    assert method_row("dpo") is loaded_method("dpo") is catalogue.METHODS["dpo"]
    with pytest.raises(RecipeError, match="dpo"):
        method_row("dop")


def test_the_decorator_may_have_another_name_in_the_file(written):
    text = LOSS.replace("StageConfig, method", "StageConfig, method as marked")
    assert method_row(written('@marked(family="lists")', text)).family == "lists"


@pytest.mark.parametrize(
    ("above", "words"),
    [
        ("", "'mine' does not say what it learns from|does not say what it learns from"),
        ("@method", "names with values alone"),
        ('@method("pairs")', "names with values alone"),
        ('@method(family="pears")', "no family 'pears'"),
        ('@method(family="online")', "no family 'online' that learns from data that is there"),
        ('@method(familly="pairs")', "no 'familly'"),
        ('@method(family="pa" + "irs")', "family of @method is no plain value"),
        ('@method(needs_reference="no")', "needs_reference of @method is 'no'"),
        ('@method(needs=("entropy",))', 'no "logps"'),
        ("@method(needs_reference=False, reference_tokens=True)", "reads a reference, and needs_reference is false"),
        ('@method(options=Options, nll_option="alpha")', "its options have no 'alpha'"),
        ('@method(measured_with=("top_k",))', "measured_with is not pairs"),
        ('@method(options=Options, measured_with=(("mask", "beta"),))', "measured_with has no argument 'mask'"),
        ('@method(step_reads="all")', "no step_reads 'all'"),
        ('@method(whole_step="nowhere")', "defines no nowhere"),
        ('@method(whole_step="mine")', "no function of answers, options, state and training"),
        ('@method(whole_step="other.module:step")', "is of another file"),
        ("@method(options=Nothing)", "options=Nothing: there is no such class"),
        ("@method(options=LossOutput)", "options=LossOutput is no class of this file"),
    ],
)
def test_what_is_wrong_with_it_is_said_with_file_and_line(above, words, written):
    with pytest.raises(RecipeError, match=words) as raised:
        method_row(written(above))
    assert "align.method" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mine = 5\n", "is not a function"),
        ("class mine: pass\n", "is not a function"),
        ("def mine(batch): pass\n", "cannot be called with a batch and options"),
        ("def other(batch, options): pass\n", "defines no mine"),
        ("def mine(:\n", "cannot be read"),
    ],
)
def test_what_is_no_loss_is_refused(text, words, written):
    with pytest.raises(RecipeError, match=words):
        method_row(written(text=text))


def test_a_loss_that_is_imported_from_another_file_is_refused_since_that_file_is_not_in_the_key(
    written, tmp_path, monkeypatch
):
    (tmp_path / "other_losses_for_test.py").write_text(LOSS.replace("{above}", PLAIN))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match="only imported there"):
        method_row(written(text="from other_losses_for_test import mine\n"))


def test_a_recipe_that_names_it_is_checked_and_planned_without_running_it(written, tmp_path):
    name = written()
    data = {"unpaired": [{"path": "answers.jsonl"}], "demonstrations": [{"path": "talks.jsonl"}]}
    align = {"method": name.rpartition("/")[2], "options": {"beta": 0.5}}
    recipe = changed_recipe({"data": data, "align": align}, (), tmp_path, "recipe.yaml")
    assert recipe.align.method == name
    steps = {node.name: node for node in nodes(recipe)}
    assert "reference" not in steps and set(steps["align"].inputs) == {"policy", "unpaired"}
    for change, words in (
        ({"options": {"betta": 1.0}}, "align.options.betta"),
        ({"options": {"beta": 11.0}}, "at most 10|less than or equal to 10"),
        ({"sft_coefficient": 0.5}, "has no use for it"),
        ({"method": "nowhere.py:mine"}, "no such file"),
    ):
        content = {"data": data, "align": {**align, **change}}
        parse_recipe(content, tmp_path, "recipe.yaml")  # of a recipe that is used elsewhere the file is not looked for
        with pytest.raises(RecipeError, match=words):
            changed_recipe(content, (), tmp_path, "recipe.yaml")


def test_where_it_runs_its_options_are_those_of_its_own_class(tmp_path):
    validated = "    @property\n    def twice(self):\n        return 2 * self.beta\n"
    (tmp_path / "mine.py").write_text(HEAD + validated + PLAIN + "\ndef mine(batch, options): return options.twice\n")
    row = loaded_method(f"{tmp_path / 'mine.py'}:mine")
    assert row.resolve()(None, row.options(beta=2.0)) == 4.0 and step_function(row) is None


def test_a_step_function_stands_in_the_file_or_in_alignflow(tmp_path):
    step = "def of_step(answers, options, state, training): return {}, state\n"
    above = '@method(family="unpaired", whole_step="{}")\n'
    for name in ("of_step", "alignflow.models.losses.step_scalars:share_step"):
        (tmp_path / "mine.py").write_text(HEAD + step + above.format(name) + "def mine(batch, options): pass\n")
        found = step_function(loaded_method(f"{tmp_path / 'mine.py'}:mine"))
        assert found.__name__ == name.rpartition(":")[2]


@pytest.mark.parametrize(
    "after",
    [
        "mine.alignflow_method = {'family': 'lists'}",
        "mine.alignflow_method = None",
        "Options.model_fields['beta'].default = 3.0",
    ],
)
def test_a_file_that_says_another_thing_when_it_runs_is_refused(after, tmp_path):
    """The plan and the key go by its text."""
    (tmp_path / "mine.py").write_text(HEAD + PLAIN + f"\ndef mine(batch, options): pass\n{after}\n")
    with pytest.raises(RecipeError, match="says another thing"):
        loaded_method(f"{tmp_path / 'mine.py'}:mine")


def test_the_decorator_knows_its_fields_and_leaves_the_function_as_it_is():
    def loss(batch, options): ...

    assert method(family="pairs")(loss) is loss
    with pytest.raises(TypeError, match="no familly"):
        method(familly="pairs")


def test_reading_it_needs_no_torch_and_works_from_any_folder(written, tmp_path):
    import subprocess

    code = "import sys; from alignflow.data.own_methods import method_row; method_row(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, written()], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
