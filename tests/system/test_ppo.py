"""`align.method: ppo` end to end on the command line, and kill -9 of its worker while it rolls out, scores and steps."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from system_support import TINY

PPO = (
    "--set", "align.method=ppo", "--set", "align.max_steps=6", "--set",
    "align.options={response_length: 12, num_ppo_epochs: 3, num_mini_batches: 2, rollout_batch_size: 4, "
    "heldout_judge: {name: rubric, options: {constitution: reader}}}",
)  # fmt: skip


def worker(store):
    """The process that runs the align body; None while there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                if f"alignflow.worker {store}/staging/align-" in command and "supervise" not in command:
                    return int(entry.name)
    return None


def kill_when(runner, condition):
    """Run, and kill the worker as soon as the condition holds of its directory of states."""
    process = runner.start("run", TINY, *PPO)
    end = time.monotonic() + 300
    while process.poll() is None:
        assert time.monotonic() < end, "it did not happen in time"
        found = [work for work in (runner.store / "work").glob("align-*") if condition(work)]
        pid = worker(runner.store) if found else None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    output, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 1), output
    return process.returncode


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """A PPO run that nothing disturbs, on the stages of the finished run."""
    runner = finished.copy(tmp_path_factory.mktemp("ppo") / "store")
    ran = runner.run(*PPO)
    assert [name for name, new in ran.items() if new] == ["align", "evaluate", "report"], "the stages before are shared with DPO"
    return runner


def align_of(runner):
    """The newest align artifact."""
    found = sorted((runner.store / "artifacts").glob("align-*"), key=lambda path: (path / "manifest.json").stat().st_mtime)
    return found[-1], json.loads((found[-1] / "manifest.json").read_text())


@pytest.mark.timeout(900)
def test_ppo_runs_end_to_end_and_is_reported(whole):
    artifact, manifest = align_of(whole)
    assert manifest["metrics"]["updates"] == 6 and set(manifest["inputs"]) == {"policy", "reference", "prompts", "reward_model"}
    assert {"trainers.online", "methods.ppo", "advantages.gae", "rewards.reward_model"} <= manifest["versions"].keys()
    assert (artifact / "side" / "samples.jsonl").read_text() and (artifact / "side" / "alarms.jsonl").exists()
    report = sorted((whole.store / "artifacts").glob("report-*"), key=lambda path: path.stat().st_mtime)[-1]
    page = (report / "side" / "report.html").read_text()
    assert "training curves of align" in page and "answers sampled while it trained" in page
    assert whole.run(*PPO) == dict.fromkeys(whole.run(*PPO), False)


# What stands on disk when the worker dies: it is then in the phase after that. Even steps of `rollouts`: sampled, odd: scored.
PHASES = {
    "before the first answers are kept": lambda work: (work / "curves.jsonl").exists(),
    "scoring": lambda work: (work / "rollouts" / "step-00000002").exists(),
    "stepping": lambda work: (work / "rollouts" / "step-00000005").exists(),
    "sampling": lambda work: (work / "step-00000004").exists(),
}


@pytest.mark.timeout(1500)
def test_a_run_that_is_killed_in_every_phase_ends_with_the_digest_of_an_undisturbed_one(whole, finished, tmp_path):
    runner = finished.copy(tmp_path / "killed")
    statuses = [kill_when(runner, condition) for condition in PHASES.values()]
    assert statuses.count(1) >= 3, "a kill may come in the instant after the end, but not each time"
    runner.run(*PPO)
    assert align_of(runner)[1]["digest"] == align_of(whole)[1]["digest"]
    curves = [(align_of(each)[0] / "side" / "curves.jsonl").read_text() for each in (whole, runner)]
    assert curves[0] == curves[1]
