"""An ensemble of reward models end to end: PPO reads both members, and one more member trains one model."""

import json

import pytest

PPO = (
    "--set",
    "align.method=ppo",
    "--set",
    "align.max_steps=2",
    "--set",
    "align.options={response_length: 12, num_ppo_epochs: 1, rollout_batch_size: 4}",
)


def of(runner, stage):
    """Manifests of a stage's artifacts, the oldest first."""
    found = [json.loads(path.read_text()) for path in (runner.store / "artifacts").glob(f"{stage}-*/manifest.json")]
    return sorted(found, key=lambda manifest: manifest["created"])


def new(ran):
    return {step for step, fresh in ran.items() if fresh}


@pytest.mark.timeout(900)
@pytest.mark.long
def test_a_further_member_trains_one_model_and_the_rule_trains_none(finished, tmp_path):
    runner = finished.copy(tmp_path / "store")
    first = runner.run(*PPO, "--set", "reward.members=2")
    assert new(first) == {"reward.2", "reward", "align", "evaluate", "report"}, "the first member was trained for DPO"
    (align,) = of(runner, "align")[1:]
    (ensemble,) = of(runner, "reward_ensemble")
    assert align["inputs"]["reward_model"]["digest"] == ensemble["digest"]
    assert align["metrics"]["objective/scores/reward_model/disagreement"] > 0
    (evaluation,) = of(runner, "evaluate")[1:]
    assert evaluation["metrics"]["reward/disagreement/aligned"] > 0 and ensemble["metrics"]["eval_accuracy"] is not None
    (report,) = of(runner, "report")[1:]
    assert {"reward.1", "reward.2", "reward"} <= report["inputs"].keys()
    second = runner.run(*PPO, "--set", "reward.members=3", "--set", "reward.aggregate=min")
    assert new(second) == {"reward.3", "reward", "align", "evaluate", "report"}
    assert len(of(runner, "reward")) == 3 and of(runner, "reward_ensemble")[-1]["metrics"]["members"] == 3
    places = [f"{runner.store}/artifacts/{manifest['key']}/payload" for manifest in of(runner, "reward")[:2]]
    labelled = runner.run(
        *("--set", "label.judge={name: reward_model}", "--set", "align=null"),
        *("--set", f"replace.reward={json.dumps(places)}"),
    )
    assert {"reward.1", "reward.2", "reward", "label"} <= new(labelled)
    assert of(runner, "label")[-1]["metrics"]["disagreement"] > 0
