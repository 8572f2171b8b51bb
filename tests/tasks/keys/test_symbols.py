"""Definitions of a module's source, as the lock file of versions takes them."""

import pytest

from alignflow.tasks.keys.symbols import EFFECTS, analyse

SOURCE = """
import os
from pathlib import Path as P

LIMIT: int = 3

def size(path: P) -> int:
    "Bytes."
    return os.stat(path).st_size + LIMIT
"""


def text(source, name):
    return analyse(source).symbols[name].text


def test_definitions_and_what_imported_names_stand_for():
    found = analyse(SOURCE)
    assert (
        {"LIMIT", "size"} <= set(found.symbols) and found.imports["P"] == "pathlib.Path" and found.imports["os"] == "os"
    )


@pytest.mark.parametrize(
    "changed",
    [
        SOURCE.replace('"Bytes."', '"""What a file takes, in bytes."""'),
        SOURCE.replace("    return", "    # a comment\n    return"),
        SOURCE.replace("path: P", "path"),
        SOURCE.replace("os.stat(path).st_size + LIMIT", "(os.stat(path).st_size\n        + LIMIT)"),
    ],
    ids=["docstring", "comment", "annotation", "layout"],
)
def test_what_people_read_makes_no_other_definition(changed):
    assert changed != SOURCE and text(changed, "size") == text(SOURCE, "size")


@pytest.mark.parametrize("changed", [SOURCE.replace("+ LIMIT", "- LIMIT"), SOURCE.replace("st_size", "st_mtime")])
def test_what_runs_does(changed):
    assert text(changed, "size") != text(SOURCE, "size")


def test_a_row_of_a_table_is_a_definition_of_its_own_without_its_version():
    source = 'ROWS = {"a": Row("x", version="1"), "b": Row("y", version="1")}'
    found = analyse(source, frozenset({"ROWS"})).symbols
    raised = analyse(source.replace('"x", version="1"', '"x", version="2"'), frozenset({"ROWS"})).symbols
    assert "ROWS" not in found and len([name for name in found if name.startswith("ROWS[")]) == 2
    assert {name: symbol.text for name, symbol in found.items()} == {
        name: symbol.text for name, symbol in raised.items()
    }


def test_statements_that_do_something_on_import_are_effects():
    assert EFFECTS in analyse("import os\nos.environ['A'] = 'b'").symbols and EFFECTS not in analyse(SOURCE).symbols
