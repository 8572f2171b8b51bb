"""`align.method: ppo` end to end on the command line; test_reliability.py kills it."""

import json

import pytest

PPO = (
    "--set",
    "align.method=ppo",
    "--set",
    "align.max_steps=6",
    "--set",
    "align.options={response_length: 12, num_ppo_epochs: 3, num_mini_batches: 2, rollout_batch_size: 4, "
    "heldout_judge: {name: rubric, options: {constitution: reader}}}",
)


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """A PPO run that nothing disturbs, on the stages of the finished run."""
    runner = finished.copy(tmp_path_factory.mktemp("ppo") / "store")
    ran = runner.run(*PPO)
    assert [name for name, new in ran.items() if new] == ["align", "evaluate", "report"], (
        "the stages before are shared with DPO"
    )
    return runner


def align_of(runner):
    """The newest align artifact."""
    found = sorted(
        (runner.store / "artifacts").glob("align-*"), key=lambda path: (path / "manifest.json").stat().st_mtime
    )
    return found[-1], json.loads((found[-1] / "manifest.json").read_text())


@pytest.mark.timeout(900)
def test_ppo_runs_end_to_end_and_is_reported(whole):
    artifact, manifest = align_of(whole)
    assert manifest["metrics"]["updates"] == 6 and set(manifest["inputs"]) == {
        "policy",
        "reference",
        "prompts",
        "reward_model",
    }
    assert {"families.online", "methods.ppo", "advantages.gae", "rewards.reward_model"} <= manifest["versions"].keys()
    assert (artifact / "side" / "samples.jsonl").read_text() and (artifact / "side" / "alarms.jsonl").exists()
    report = sorted((whole.store / "artifacts").glob("report-*"), key=lambda path: path.stat().st_mtime)[-1]
    page = (report / "side" / "report.html").read_text()
    assert "training curves of align" in page and "answers sampled while it trained" in page
    assert whole.run(*PPO) == dict.fromkeys(whole.run(*PPO), False)
