"""A module has a test file of its own name, at the same place under tests/: nine of ten, of those that have a function."""

import ast
from pathlib import Path

import alignflow

ROOT = Path(alignflow.__file__).parent
TESTS = Path(__file__).parents[1]
SHARE = 0.9


def has_a_function(path):
    """Whether a module does something: tables, protocols of data and lists of words do not."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text()))
    )


def own_file(path):
    relative = path.relative_to(ROOT)
    return TESTS / relative.parent / f"test_{relative.name}"


def test_nine_modules_of_ten_have_a_test_file_of_their_own_name():
    modules = [path for path in sorted(ROOT.rglob("*.py")) if has_a_function(path)]
    without = [str(path.relative_to(ROOT)) for path in modules if not own_file(path).is_file()]
    assert len(without) <= (1 - SHARE) * len(modules), (
        f"{len(without)} of {len(modules)} have none: {', '.join(without)}"
    )


def test_a_test_file_of_a_module_tests_something():
    for path in sorted(ROOT.rglob("*.py")):
        if own_file(path).is_file():
            tree = ast.parse(own_file(path).read_text())
            tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
            assert tests, own_file(path)
