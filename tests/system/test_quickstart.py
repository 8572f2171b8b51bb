"""The quickstart's promise, on one seed: the numbers of docs/measurements/results.md can be had again."""

import json

import pytest
from system_support import Runner


@pytest.mark.timeout(2400)
def test_the_quickstart_learns_what_it_says(tmp_path):
    runner = Runner(tmp_path / "store", None)  # no server: as a newcomer runs it
    assert all(runner.run(recipe="recipes/quickstart.yaml").values())

    def metrics(stage):
        return json.loads((runner.artifact(stage) / "manifest.json").read_text())["metrics"]

    assert metrics("reward")["eval_accuracy"] >= 0.75
    evaluation = metrics("evaluate")
    assert evaluation["prompts"] >= 200
    assert evaluation["win_rate/rubric:helpful/low"] > 0.5
    assert evaluation["win_rate/rubric:reader/low"] > 0.5
    assert evaluation["heldout_nll/change"] <= 0.10
    assert not any(runner.run(recipe="recipes/quickstart.yaml").values())
