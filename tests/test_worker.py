"""The door for processes: how one ends."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys
from alignflow.worker import LastAct
last_act = LastAct()
class Held:
    def __del__(self):
        print("torn down")
held = Held()
atexit.register(print, "handlers ran")
{end}
"""


@pytest.mark.parametrize(("end", "status"), [("last_act.status = 0", 0), ("last_act.status = 3", 3), ("1 / 0", 1)])
def test_a_process_ends_after_its_exit_handlers_and_before_the_interpreter_is_taken_down(end, status):
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(end=end)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("handlers ran\n", status)
    assert ("ZeroDivisionError" in done.stderr) == (end == "1 / 0")
