"""docs/measurements/scale.md holds the figures that the functions of the estimates give now."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def make_scale(repository):
    """docs/make_scale.py as a module: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("make_scale", repository / "docs" / "make_scale.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date_and_needs_no_torch(repository):
    code = (
        "import runpy, sys\nsys.path.insert(0, 'docs')\nsys.argv = ['docs/make_scale.py', '--check']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end:\n    status = end.code\n"
        "heavy = {'torch', 'transformers', 'prefect', 'deepspeed', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_finds_a_missing_and_a_changed_page(make_scale, tmp_path):
    assert make_scale.main(["--check"], tmp_path) == 1, "an empty folder"
    assert make_scale.main([], tmp_path) == 0 and make_scale.main(["--check"], tmp_path) == 0
    with open(tmp_path / make_scale.PAGE, "a") as file:
        file.write("changed")
    assert make_scale.main(["--check"], tmp_path) == 1


def test_the_page_says_that_nothing_was_measured_on_a_gpu(make_scale):
    assert "None of these figures was measured on a GPU" in make_scale.page()


def test_the_labels_are_the_sizes(make_scale):
    for label, shape in make_scale.MODELS.items():
        assert float(label.removesuffix("B")) == pytest.approx(shape.parameters / 1e9, rel=0.25)
