"""What a person sees while a recipe runs."""

import io

import pytest

from alignflow.cli.display import Display
from alignflow.cli.terminal import Console


@pytest.fixture
def shown():
    file = io.StringIO()
    return Display(Console(file=file, width=60), 1), file


def test_what_a_step_notes_stands_on_a_line_of_its_own(shown):
    display, file = shown
    display.progress("prepare", {"note": "rows are worked on in one process [Errno 30]"})
    assert file.getvalue() == "  prepare: rows are worked on in one process [Errno 30]\n"


def test_a_remark_is_one_line_however_long(shown):
    display, file = shown
    display.remarks("data.preferences: no step of the recipe takes its 1,234 rows; kto reads unpaired")
    assert file.getvalue().count("\n") == 1 and "1,234 rows" in file.getvalue()
