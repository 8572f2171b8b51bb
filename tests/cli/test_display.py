"""What a run prints: plain lines where the output is no terminal."""

import io
from types import SimpleNamespace

import pytest

from alignflow.cli.display import Display, gate_line
from alignflow.cli.terminal import Console
from alignflow.data.gates import GateRecord

RECORD = GateRecord(
    gate="loss",
    stage="sft",
    metric="eval_loss",
    key="sft-01",
    digest="d",
    value=3.0,
    minimum=None,
    maximum=2.0,
    action="ask",
    verdict="approved",
    who="ada",
)


def test_a_file_gets_no_live_line_and_markup_of_a_reason_is_text():
    out = io.StringIO()
    display = Display(Console(file=out, width=200), 2)
    display.starts(SimpleNamespace(name="sft"), "[red]changed[/red]: beta")
    display.progress("sft", {})
    display.stop()
    assert "sft  runs: [red]changed[/red]: beta" in out.getvalue() and "\x1b" not in out.getvalue()
    assert display.running.name == "sft"


def test_a_gate_says_who_let_the_run_on():
    assert "(approved by ada)" in gate_line(RECORD) and "3" in gate_line(RECORD)
    assert "approved" not in gate_line(RECORD.model_copy(update={"verdict": "passed", "value": 1.0}))


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
