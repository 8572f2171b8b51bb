"""One row per method that learns from pairs: it trains from the catalogue's row, and fits 16 pairs by its own implicit reward."""

import math

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import read_table, write_table
from alignflow.models.trainers.pairwise import train_align

METHODS = [name for name, row in catalogue.METHODS.items() if row.trainer == "pairs"]
OPTIONS = {"gpo": {"form": "exponential"}, "f_dpo": {"f_divergence_type": "js_divergence"}}
"""Where the default of a method is another one, which has a row of its own."""
WITH_NLL = {"cpo", "orpo"}


@pytest.fixture
def sixteen(preferences, tmp_path):
    """The first 16 pairs, to learn from and to be asked about."""
    rows = read_table(preferences / "train.parquet")[:16]
    for side in ("train", "heldout"):
        write_table(rows, "preferences", tmp_path / "sixteen" / f"{side}.parquet")
    return tmp_path / "sixteen"


@pytest.mark.parametrize("method", METHODS)
def test_it_fits_16_pairs_by_its_own_reward(method, new_run, tiny_checkpoint, sixteen):
    run = new_run()
    config = AlignConfig(
        method=method, options=OPTIONS.get(method, {}), learning_rate=5e-3, max_steps=16, batch_size=16, max_length=64, logging_steps=1
    )
    found = train_align(config, policy=tiny_checkpoint, reference=None, preferences=sixteen, run=run)
    assert found["eval_rewards/accuracies"] > 0.9 and found["eval_rewards/margins"] > 0
    assert found["eval_loss"] < first_loss(run) and all(math.isfinite(value) for value in found.values())
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"} <= set(found)
    assert "nll_loss" in found


def first_loss(run):
    import json

    return json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])["loss"]


@pytest.mark.parametrize("method", ["dpo", "wpo", *sorted(WITH_NLL)])
def test_a_step_is_the_same_for_any_split_into_micro_batches(method, new_run, tiny_checkpoint, sixteen):
    """What is a mean over the tokens of a step must not be a mean of means over micro-batches."""
    config = AlignConfig(method=method, learning_rate=1e-2, max_steps=1, batch_size=16, max_length=64, max_grad_norm=0, logging_steps=1)
    found = [
        train_align(config, policy=tiny_checkpoint, reference=None, preferences=sixteen, run=new_run(str(tokens), micro_batch_tokens=tokens))
        for tokens in (8192, 48)
    ]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
