"""A worker never outlives its supervisor, however early that one goes."""

import os
import time
from pathlib import Path

from alignflow.tasks.launch.child import supervised
from alignflow.tasks.launch.environment import stage_environment


def child_of(pid):
    """The only child of a process, once it is there."""
    end = time.monotonic() + 20
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return int(children[0])


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_worker_whose_supervisor_dies_while_the_interpreter_starts_does_not_begin(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    os.mkfifo(tmp_path / "spec.json")  # nobody ever writes to it: a worker that gets so far waits for good
    with supervised([str(tmp_path / "spec.json")], tmp_path / "log.txt", stage_environment(os.environ)) as supervisor:
        worker = child_of(supervisor.pid)
        supervisor.kill()
        supervisor.wait()
        assert lives(worker)
    end = time.monotonic() + 20
    while lives(worker):
        assert time.monotonic() < end, "an orphan"
        time.sleep(0.05)
