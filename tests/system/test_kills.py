"""kill -9 of the flow, of the worker child, and in the middle of publishing, in every stage: nothing is lost or half-done."""

import contextlib
import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from system_support import STAGES, TINY


def processes(part):
    """Ids of processes whose command line has `part` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if part in (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " "):
                    found.append(int(entry.name))
    return found


def child_of(runner, stage):
    """The worker of a stage on a runner's store, once its body has begun to work; None before."""
    for spec in (runner.store / "staging").glob(f"{stage}-*/spec.json"):
        workers = [
            pid
            for pid in processes(f"alignflow.worker {spec}")
            if b"supervise" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        if workers:
            return workers[0]
    return None


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := condition()) is not None:
            return found
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def deep_in(runner, stage, process):
    """The worker of a stage that is at work: one that trains has a state behind it."""
    child = wait_for(lambda: child_of(runner, stage), process)
    if stage in TRAINS:
        wait_for(lambda: next((runner.store / "work").glob(f"{stage}-*/step-*"), None), process)
    else:
        time.sleep(1.0)
    return child


def kill_flow(runner, stage, patches):
    process = runner.start("run", TINY)
    child = deep_in(runner, stage, process)
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while child in processes("alignflow.worker"):
        assert time.monotonic() < end, "the child outlived its flow"
        time.sleep(0.05)
    return True


def kill_child(runner, stage, patches):
    process = runner.start(
        "run", TINY, "--until", stage
    )  # where it has finished in the instant before, nothing else is run
    child = deep_in(runner, stage, process)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    if process.returncode:
        assert process.returncode == 1 and "killed by signal 9" in output, output
    return process.returncode == 1


def kill_publishing(runner, stage, patches):
    process = runner.start("run", TINY, PYTHONPATH=patches, DIE_WHILE_PUBLISHING=stage)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    return True


TRAINS = ("sft", "reward", "align")
KILLS = (kill_flow, kill_child, kill_publishing)


@pytest.mark.timeout(1500)
def test_a_run_that_is_killed_in_every_stage_ends_with_the_digests_of_an_undisturbed_one(empty, finished, patches):
    """The kinds of kill take turns over the stages; trainings are killed at random moments in test_reliability.py."""
    hits = 0
    for number, (stage, kill) in enumerate(zip(STAGES, itertools.cycle(KILLS), strict=False)):
        hits += kill(empty, stage, patches)
        made = {path.name.split("-")[0] for path in (empty.store / "artifacts").iterdir()}
        assert made >= set(STAGES[:number]), "finished stages stay"
        for artifact in (empty.store / "artifacts").iterdir():
            assert json.loads((artifact / "manifest.json").read_text())["key"] == artifact.name, (
                "nothing half-written counts"
            )
    assert hits >= len(STAGES) - 1, "all but one that may have ended in the instant before"
    empty.run()
    assert empty.digests() == finished.digests()
    assert empty.run() == dict.fromkeys(STAGES, False)
    assert "are intact" in empty("verify")
