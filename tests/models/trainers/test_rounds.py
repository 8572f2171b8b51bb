"""Rounds of sdpo as its stages do them: each starts at its reference, the model of the round before, and goes on from there."""

import json
import math

import pytest

from alignflow.data.configs.training import AlignConfig, LoRAConfig, ReferenceConfig, SplitConfig
from alignflow.data.parts import split
from alignflow.data.step_names import part_name
from alignflow.models.reference import compute_reference
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.reference_scores import is_of


@pytest.mark.parametrize("lora", [None, LoRAConfig(r=4)], ids=["whole", "adapter"])
def test_two_rounds_go_from_easy_to_hard_and_learn_the_preference(lora, new_run, tiny_checkpoint, preferences):
    reference = ReferenceConfig(max_length=64)
    scores, cut = new_run("scores"), new_run("parts")
    start = compute_reference(reference, checkpoint=tiny_checkpoint, preferences=preferences, run=scores)
    parts = split(SplitConfig(), preferences=preferences, reference=scores.out, run=cut)
    assert parts["logratio/1"] > parts["logratio/2"] and parts["pairs/1"] == parts["pairs/2"] == 20
    config = AlignConfig(
        method="sdpo", learning_rate=1e-2, max_steps=12, batch_size=10, max_length=64, logging_steps=1, lora=lora
    )
    model = tiny_checkpoint
    for number in (1, 2):
        part, scored, run = cut.out / part_name(number), new_run(f"scored{number}"), new_run(f"round{number}")
        compute_reference(reference, checkpoint=model, preferences=part, run=scored)
        assert is_of(scored.out, model)
        found = train_offline(config, policy=model, reference=scored.out, preferences=part, run=run)
        first = json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-3), "it starts at its reference"
        assert found["rewards/accuracies"] > 0.8 and found["rewards/margins"] > 0, "of its part, against its reference"
        model = run.out
    end = compute_reference(reference, checkpoint=model, preferences=preferences, run=new_run("end"))
    assert preference(end) > preference(start) + 1.0, "nats, over all pairs"


def preference(metrics):
    return metrics["logps/chosen"] - metrics["logps/rejected"]
