"""Processes that are known again, and never mistaken for another."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from alignflow.server import processes
from alignflow.server.environment import MARK

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


@pytest.fixture
def start(home, tmp_path):
    """Starts a process and waits until it is ready; what is left at the end is killed."""
    started = []

    def starter(command=SLEEP, name="worker-a", environment=None):
        process = processes.start(home, name, command, {**os.environ, **(environment or {})}, tmp_path)
        started.append(process)
        end = time.monotonic() + 20
        while "ready" not in processes.end_of_log(home, name):
            assert time.monotonic() < end
            time.sleep(0.02)
        return process

    yield starter
    for process in started:
        if process.alive:
            os.kill(process.pid, signal.SIGKILL)


def test_a_process_is_found_by_a_later_command(start, home):
    process = start()
    assert processes.known(home) == {"worker-a": process} and process.alive
    assert os.getsid(process.pid) == process.pid, "a session of its own: Ctrl-C in the terminal is not for it"
    assert (home.logs / "worker-a.log").stat().st_mode & 0o777 == 0o600
    assert processes.stop(process, 10) and not process.alive
    processes.forget(home, "worker-a")
    assert processes.known(home) == {}


def test_another_process_with_the_same_id_is_left_alone(start):
    process = start()
    stale = replace(process, born="another-boot:1")
    assert not stale.alive
    assert processes.stop(stale, 1), "it is gone already"
    assert process.alive


def test_what_does_not_go_is_killed(start):
    process = start(STUBBORN)
    assert not processes.stop(process, 0.3) and not process.alive


def test_a_process_that_ended_and_was_not_waited_for_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    born = processes.birth(child.pid)
    time.sleep(0.1)
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        time.sleep(0.02)
    assert born and processes.birth(child.pid) is None
    child.wait()


def test_files_that_nobody_can_read_are_nobody(home):
    (home.processes / "server.json").write_text("{")
    (home.processes / "worker-a.json").write_text(json.dumps({"pid": 1}))
    assert processes.known(home) == {}


def test_a_worker_can_be_interrupted_although_the_shell_ignored_it(start):
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)
    os.kill(process.pid, signal.SIGINT)
    assert processes.wait_for_end([process], 10)


def test_what_a_dead_worker_started_is_found_and_ended(start, home):
    parent = [
        sys.executable,
        "-c",
        f"import subprocess; print(subprocess.Popen({SLEEP!r}, start_new_session=True).pid, 'ready', flush=True); input()",
    ]
    worker = start(
        [*parent[:2], parent[2].replace("input()", "import time; time.sleep(60)")],
        environment={MARK: str(home.root), processes.RUN_ID: "a-run"},
    )
    child = int(processes.end_of_log(home, "worker-a").split()[0])
    assert {worker.pid, child} == processes.marked(home).keys() and processes.flow_runs(home) == {"a-run"}
    os.kill(worker.pid, signal.SIGKILL)
    assert processes.wait_for_end([worker], 5) and processes.birth(child)
    processes.end_marked(home, 10, frozenset({child}))
    assert processes.birth(child), "it was to be spared"
    processes.end_marked(home, 10, frozenset())
    assert processes.birth(child) is None and processes.marked(home) == {}


def test_a_long_log_is_set_aside(start, home, monkeypatch):
    monkeypatch.setattr(processes, "MOST_LOG_BYTES", 10)
    (home.logs / "worker-a.log").write_text("x" * 11)
    start()
    assert (home.logs / "worker-a.log.1").read_text() == "x" * 11 and "ready" in (
        home.logs / "worker-a.log"
    ).read_text()
