"""`alignflow gc` beside a real training: its inputs stay, and so does work that came alive while gc waited for an answer."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from system_support import REPOSITORY, TINY
from waiting import wait_until

from alignflow.tasks.store.artifact_store import ArtifactStore

# Long enough to stand beside gc, with states behind it.
LONG = ("--until", "sft", "--set", "sft.max_steps=1500", "--set", "sft.save_steps=20")


def processes(part):
    """Ids of processes, but supervisors, whose command line has `part` in it."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                if part in words and "supervise.py" not in words:
                    found.append(int(entry))
    return found


def deep_in(runner, stage, process):
    """The worker of a training that is at work and has a state behind it."""

    def at_work():
        assert process.poll() is None, process.communicate()[0]
        specs = list((runner.store / "staging").glob(f"{stage}-*/spec.json"))
        workers = [pid for spec in specs for pid in processes(f"alignflow.worker {spec}")]
        return workers[0] if workers and list((runner.store / "work").glob(f"{stage}-*/step-*")) else None

    return wait_until(at_work, 300)


@pytest.fixture
def training(empty):
    """A run that trains `sft`, with a state behind it; it is ended with the test."""
    process = empty.start("run", TINY, *LONG)
    child = deep_in(empty, "sft", process)
    yield process, child
    process.kill()
    process.wait()


def made(runner):
    return {path.name.partition("-")[0] for path in (runner.store / "artifacts").iterdir()}


def test_the_inputs_of_a_running_stage_stay(empty, training):
    process, child = training
    told = empty("gc", "--yes", "--keep-last", "0", "--unused-for", "0")
    assert made(empty) >= {"init", "prepare"} and list((empty.store / "work").glob("sft-*/step-*")), told
    assert "in use: " in told
    process.kill()
    process.wait()
    wait_until(lambda: child not in processes("alignflow.worker"))
    (key,) = (path.name for path in (empty.store / "work").glob("sft-*"))
    wait_until(lambda: not ArtifactStore(empty.store).is_locked(key))
    empty("gc", "--yes", "--keep-last", "0", "--unused-for", "0")
    assert made(empty) == set() and not list((empty.store / "work").iterdir()), "a dead run holds nothing"


def test_work_that_comes_alive_between_the_question_and_the_answer_stays(empty, training):
    process, child = training
    process.kill()
    process.wait()
    wait_until(lambda: child not in processes("alignflow.worker"))
    gc = subprocess.Popen(
        [sys.executable, "-m", "alignflow", "gc", "--keep-last", "0"],
        cwd=REPOSITORY,
        env=empty.environment(PYTHONUNBUFFERED="1"),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    asked = ""
    while "]: " not in asked:
        asked += (letter := gc.stdout.read(1))
        assert letter, asked
    assert "work/sft-" in asked and "artifacts/prepare-" in asked
    again = empty.start("run", TINY, *LONG)
    try:
        deep_in(empty, "sft", again)
        told, _ = gc.communicate("y\n", timeout=200)
        assert gc.returncode == 0 and "stays: work/sft-" in told, told
        assert made(empty) >= {"init", "prepare"} and list((empty.store / "work").glob("sft-*/step-*"))
    finally:
        again.kill()
        again.wait()
