"""One row per method that learns from pairs: it trains from the catalogue's row, and fits 16 pairs by its own implicit reward."""

import json
import math

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import read_table, write_table
from alignflow.models.trainers.offline import train_offline

METHODS = [name for name, row in catalogue.METHODS.items() if row.family == "pairs"]
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
    found = train_offline(config, policy=tiny_checkpoint, reference=None, preferences=sixteen, run=run)
    assert found["eval_rewards/accuracies"] > 0.9 and found["eval_rewards/margins"] > 0
    assert found["eval_loss"] < first_loss(run) and all(math.isfinite(value) for value in found.values())
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"} <= set(found)
    assert "nll_loss" in found and "eval_nll_loss" in found


def first_loss(run):
    return json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])["loss"]


@pytest.mark.parametrize("method", ["dpo", "wpo", *sorted(WITH_NLL)])
def test_a_step_is_the_same_for_any_split_into_micro_batches(method, new_run, tiny_checkpoint, sixteen):
    """What is a mean over the tokens of a step must not be a mean of means over micro-batches."""
    config = AlignConfig(method=method, learning_rate=1e-2, max_steps=1, batch_size=16, max_length=64, max_grad_norm=0, logging_steps=1)
    found, norms = [], []
    for tokens in (8192, 48):
        run = new_run(str(tokens), micro_batch_tokens=tokens)
        found.append(train_offline(config, policy=tiny_checkpoint, reference=None, preferences=sixteen, run=run))
        norms.append(json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    for name in ("loss", "nll_loss", "eval_logps/chosen", "eval_logps/rejected", "eval_nll_loss", "eval_loss"):  # eval: after the step
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4), name


@pytest.mark.parametrize("method", sorted(WITH_NLL))
def test_the_nll_that_is_shown_is_the_mean_over_tokens_that_enters_the_loss(method, new_run, tiny_checkpoint, sixteen):
    """The loss at weight 1 of the NLL, without the preference term that the shown figures give."""
    options = {"cpo": {"beta": 1e-9}, "orpo": {"beta": 0.0}}[method]  # the preference term: ln 2, and 0
    config = AlignConfig(
        method=method, options=options, learning_rate=1e-2, max_steps=1, batch_size=16, max_length=64, max_grad_norm=0, logging_steps=1
    )
    run = new_run("nll", micro_batch_tokens=256)
    found = train_offline(config, policy=tiny_checkpoint, reference=None, preferences=sixteen, run=run)
    preference = {"cpo": math.log(2), "orpo": 0.0}[method]
    assert found["nll_loss"] == pytest.approx(found["loss"] - preference, rel=1e-5)
    assert found["eval_nll_loss"] == pytest.approx(found["eval_loss"] - preference, rel=1e-5)
