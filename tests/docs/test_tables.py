"""The tables of the docs are those that the configs and the catalogue give now."""

import importlib.util
import subprocess
import sys

import pytest

from alignflow.data import catalogue


@pytest.fixture(scope="module")
def make_tables(repository):
    """docs/make_tables.py as a module: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("make_tables", repository / "docs" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date_and_need_no_torch(repository):
    code = (
        "import runpy, sys\nsys.path.insert(0, 'docs')\nsys.argv = ['docs/make_tables.py', '--check']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end:\n    status = end.code\n"
        "heavy = {'torch', 'transformers', 'prefect', 'deepspeed', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["recipe.md", "catalogue.md"])
def test_the_check_finds_a_missing_and_a_changed_page(make_tables, tmp_path, capsys, page):
    assert make_tables.main(["--check"], tmp_path) == 1, "an empty folder"
    assert make_tables.main([], tmp_path) == 0 and make_tables.main(["--check"], tmp_path) == 0
    capsys.readouterr()
    with open(tmp_path / page, "a") as file:
        file.write("by hand\n")
    assert make_tables.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == f"docs/{page} is out of date: run `make tables`\n"


def test_every_field_of_the_recipe_stands_in_its_section(make_tables):
    sections = dict(part.split("\n", 1) for part in make_tables.recipe_page().split("\n## ")[1:])
    assert len(sections) == len(make_tables.PLACES), "two configs share a heading"
    for config in make_tables.PLACES:
        title = "top level" if config is make_tables.Recipe else make_tables.heading(config)
        for name in config.model_fields:
            assert f"\n| `{name}` |" in sections[title], f"{title}.{name}"


def test_every_row_of_the_catalogue_is_listed(make_tables):
    page = make_tables.catalogue_page()
    for table, rows in catalogue.TABLES.items():
        section = page.split(f"\n## {table.capitalize().replace('_', ' ')}\n")[1].split("\n## ")[0]
        assert all(f"\n| `{name}` |" in section and f"`{row.address}`" in section for name, row in rows.items()), table


def test_the_key_column_says_what_the_key_does(make_tables):
    """Cells of fields whose way into the key is known from tests of the key."""
    from alignflow.data.configs.inputs import InitConfig
    from alignflow.data.configs.recipe import EngineConfig, Recipe
    from alignflow.data.configs.training import AlignConfig

    cells = {
        (AlignConfig, "sft_coefficient"): "yes",
        (AlignConfig, "save_steps"): "no",
        (AlignConfig, "options"): "its fields",
        (InitConfig, "path"): "content",
        (EngineConfig, "precision"): "resolved",
        (EngineConfig, "training"): "resolved",
        (EngineConfig, "threads"): "no",
        (Recipe, "name"): "no",
        (Recipe, "seed"): "through the stages",
        (Recipe, "align"): "its fields",
    }
    assert {place: make_tables.key_cell(*place) for place in cells} == cells


def test_a_cell_cannot_break_its_table(make_tables):
    assert make_tables.table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"
    assert make_tables.prose("word<TAB>value") == "word&lt;TAB>value"
