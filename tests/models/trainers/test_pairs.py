"""Pairs are trained whole or not at all: a prompt that leaves no room for its answers is left out, and said."""

import math

import pytest
from transformers import AutoTokenizer

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, ReferenceConfig, RewardConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.models.reference import compute_reference
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.reward import train_reward

STEPS = {"learning_rate": 1e-3, "max_steps": 2, "batch_size": 10, "max_length": 64}
BODIES = {
    "align": lambda base, pairs, run: train_offline(
        AlignConfig(**STEPS), policy=base, reference=None, preferences=pairs, run=run
    ),
    "reward": lambda base, pairs, run: train_reward(
        RewardConfig(check_rows=4, **STEPS), base=base, preferences=pairs, run=run
    ),
    "reference": lambda base, pairs, run: compute_reference(
        ReferenceConfig(max_length=STEPS["max_length"]), checkpoint=base, preferences=pairs, run=run
    ),
}


@pytest.fixture
def long_pairs(tiny_checkpoint):
    """Pairs whose prompt alone has at least 200 tokens: cut to 64, both sides would be the same, or have no answer."""
    prompt = "the cat " * 100
    assert len(AutoTokenizer.from_pretrained(tiny_checkpoint)(prompt)["input_ids"]) >= 200
    return [
        {
            "id": f"long{index}",
            "source": "t",
            "prompt": user(f"{prompt}{index}"),
            "chosen": assistant("cat"),
            "rejected": assistant("dog"),
            "chosen_ended": True,
            "rejected_ended": True,
        }
        for index in range(3)
    ]


def written(rows, heldout, path):
    write_table(rows, "preferences", path / "train.parquet")
    write_table(heldout, "preferences", path / "heldout.parquet")
    return path


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


@pytest.mark.parametrize("stage", list(BODIES))
def test_where_there_are_no_other_pairs_they_are_refused(stage, tiny_checkpoint, long_pairs, tmp_path, new_run):
    run = new_run()
    with pytest.raises(TrainingError, match=r"no preference pairs to learn from\n  set \w+\.max_length"):
        BODIES[stage](tiny_checkpoint, written(long_pairs, long_pairs, tmp_path / "data"), run)
    assert run.warnings[0] == "3 pairs of train are over max_length 64 and were dropped" and not list(run.out.iterdir())


@pytest.mark.parametrize("stage", list(BODIES))
def test_pairs_over_the_models_context_are_left_out_whatever_max_length_says(
    stage, tiny_checkpoint, long_pairs, tmp_path, new_run, monkeypatch
):
    monkeypatch.setitem(STEPS, "max_length", 512)
    run = new_run()
    with pytest.raises(TrainingError, match="no preference pairs to learn from"):
        BODIES[stage](tiny_checkpoint, written(long_pairs, long_pairs, tmp_path / "data"), run)
    assert run.warnings[0] == "3 pairs of train are over the model's context of 128 tokens and were dropped"


@pytest.mark.parametrize("stage", list(BODIES))
def test_among_other_pairs_they_are_left_out_and_the_result_is_the_same(
    stage, tiny_checkpoint, preferences, long_pairs, tmp_path, new_run
):
    train, heldout = (read_table(preferences / f"{side}.parquet") for side in ("train", "heldout"))
    mixed, run = written([*train, *long_pairs], [*heldout, *long_pairs[:1]], tmp_path / "mixed"), new_run("mixed")
    found = BODIES[stage](tiny_checkpoint, mixed, run)
    assert found == BODIES[stage](tiny_checkpoint, preferences, new_run("plain"))
    assert all(math.isfinite(value) for value in found.values() if value is not None)
    assert [text for text in run.warnings if "max_length" in text] == [
        f"{count} pairs of {side} are over max_length 64 and were dropped"
        for side, count in (("train", 3), ("heldout", 1))
    ]
    assert digests(run.out) == digests(new_run("plain").out)
