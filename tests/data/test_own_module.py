"""Code of the user's own, named by its file or by its module."""

import pytest

from alignflow.data import own_module
from alignflow.data.configs.generation import JudgeConfig, LabelConfig
from alignflow.data.configs.loading import changed_recipe, parse_recipe
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import stage_key

CODE = "VALUE = 1\nclass Mine:\n    value = VALUE\ndef score(prompt, completion, row):\n    return 1.0\n"


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    return folder


@pytest.mark.parametrize(
    ("name", "of_a_file"),
    [
        ("mine.py:Mine", True),
        ("a/b.py:Mine", True),
        ("mine:Mine", False),
        ("package.py:Mine", True),
        ("rubric", False),
        ("package.module:Mine", False),
    ],
)
def test_a_file_is_told_from_a_module_by_its_suffix(name, of_a_file):
    assert own_module.is_file(name) is of_a_file


def test_a_path_starts_at_the_recipes_directory(project):
    options = {"rewards": [{"name": "function", "options": {"function": "mine.py:score"}}]}
    content = {"label": {"judge": {"name": "mine.py:Mine"}}, "align": {"method": "ppo", "options": options}}
    recipe = parse_recipe(content, project, "recipe.yaml")
    assert recipe.label.judge.name == f"{project / 'mine.py'}:Mine"
    assert recipe.align.options["rewards"][0]["options"]["function"] == f"{project / 'mine.py'}:score"


@pytest.mark.parametrize(
    "content",
    [
        {"label": {"judge": {"name": "none.py:Mine"}}},
        {
            "align": {
                "method": "ppo",
                "options": {"rewards": [{"name": "function", "options": {"function": "nowhere_for_test:score"}}]},
            }
        },
    ],
)
def test_a_recipe_that_is_used_is_refused_where_it_names_code_that_is_not_there(project, content):
    with pytest.raises(RecipeError, match="no (judge|function) "):
        changed_recipe(content, (), project, "recipe.yaml")


def test_it_is_loaded_from_the_file_and_the_folder_beside_it_is_not_searched(project):
    (project / "pandas.py").write_text("raise SystemExit('run')")
    (project / "mine.py").write_text("import pandas\n" + CODE)
    found = own_module.load(f"{project / 'mine.py'}:Mine")
    assert found.value == 1 and own_module.load(f"{project / 'mine.py'}:Mine") is found


def test_a_changed_file_is_loaded_anew(project):
    assert own_module.load(f"{project / 'mine.py'}:Mine").value == 1
    (project / "mine.py").write_text(CODE.replace("VALUE = 1", "VALUE = 2"))
    assert own_module.load(f"{project / 'mine.py'}:Mine").value == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}/none.py:Mine", "no such file"),
        ("{}/mine.py:Other", "Other"),
        ("{}/broken.py:Mine", "cannot be imported"),
        ("no_such_module:Mine", "PYTHONPATH"),
    ],
)
def test_what_is_not_there_is_the_recipes_error(project, name, said):
    (project / "broken.py").write_text("class Mine(:")
    with pytest.raises(RecipeError) as caught:
        own_module.load(name.format(project))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\nKEY = os.environ['NO_SUCH_KEY_HERE']\n", ("KeyError", "NO_SUCH_KEY_HERE", "engine.environment")),
        ("import no_such_library_here\n", ("no_such_library_here", "install what it imports", "is not searched")),
        ("1 / 0\n", ("ZeroDivisionError", "correct the code")),
        ("raise SystemExit(0)\n", ("SystemExit", "correct the code")),
    ],
)
@pytest.mark.parametrize("form", ["file", "module"])
def test_code_that_fails_while_it_is_imported_is_named_with_the_remedy(project, monkeypatch, code, said, form):
    (project / "failing_for_test.py").write_text(code + CODE)
    monkeypatch.syspath_prepend(project)
    with pytest.raises(RecipeError) as caught:
        own_module.load(f"{project / 'failing_for_test.py'}:Mine" if form == "file" else "failing_for_test:Mine")
    assert all(
        part in str(caught.value) for part in ("cannot be imported", *said)
    ) and "name the file itself" not in str(caught.value)


def test_the_remedy_for_a_file_that_is_not_there_is_to_check_its_path(project):
    assert (
        own_module.advice(str(project / "none.py")) == "check the path; a relative one starts at the recipe's directory"
    )


def test_a_module_of_the_working_directory_is_not_found_and_the_message_says_how_to_name_it(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "own_module_for_test.py").write_text(CODE)
    with pytest.raises(RecipeError, match="working directory, which is not searched") as caught:
        own_module.source_file("own_module_for_test:Mine")
    assert "./own_module_for_test.py:NAME" in str(caught.value)


def key_of(folder, store):
    config = LabelConfig(judge=JudgeConfig(name=f"{folder / 'mine.py'}:Mine"))
    return stage_key("label", config, {}, Runtime(), ContentDigests(store.root))


def test_the_bytes_of_the_file_enter_the_key_and_its_folder_does_not(project, tmp_path, store):
    key, components = key_of(project, store)
    assert components["config.judge.name"] == "mine.py:Mine" and str(tmp_path) not in str(components)
    moved = project.rename(tmp_path / "moved")
    assert key_of(moved, store)[0] == key
    (moved / "mine.py").write_text(CODE + "# changed\n")
    assert key_of(moved, store)[0] != key


def test_the_file_of_a_module_is_found_without_importing_its_package(project, monkeypatch):
    (project / "own_package").mkdir()
    (project / "own_package" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (project / "own_package" / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(project)
    assert own_module.source_file("own_package.mine:Mine") == project / "own_package" / "mine.py"
