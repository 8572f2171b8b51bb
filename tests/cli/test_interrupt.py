"""What a signal does to a run: one line, a status that names the signal, and an end in time even where something hangs."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from alignflow.cli.interrupt import ends_when_told

with ends_when_told(lambda: "interrupted; the line", lambda: print("tidied", flush=True)):
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep({hangs})
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("hangs", [0, 60])
def test_one_line_and_the_status_of_the_signal(number, status, hangs):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(hangs=hangs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    for _ in range(3):  # an impatient person presses it again
        process.send_signal(number)
        time.sleep(0.02)
    said, told = process.communicate(timeout=10)
    assert process.returncode == status and time.monotonic() - begun < 10  # by design under 3; this machine may be busy
    assert told == "alignflow: interrupted; the line\n" and said == "tidied\n"


def test_a_signal_that_a_shell_set_aside_stays_aside():
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + PROGRAM.format(hangs=0).replace(
        "sleep(60)", "sleep(0.5)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
