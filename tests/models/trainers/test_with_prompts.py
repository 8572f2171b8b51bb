"""An NLL over prompts and answers: the answers' own figures stay as they are, and the prompts' tokens are counted beside them."""

import json

import pytest
import torch

from alignflow.data.configs.training import AlignConfig
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.policy import load_policy
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.offline_rows import read_paired
from alignflow.models.trainers.with_prompts import count_prompts

ROWS = [3, 0, 5]


@pytest.fixture(scope="module")
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime(), trainable=True)


@pytest.fixture
def pairs(preferences, policy, new_run):
    return read_paired(preferences / "train.parquet", policy.tokenizer, 64, new_run(), "align")


def test_figures_of_the_answers_are_the_same_and_those_of_prompts_stand_beside_them(policy, pairs):
    own = Answers(policy, pairs, None, needs=("logps", "entropy")).batch(ROWS)
    whole = Answers(policy, count_prompts(pairs), None, needs=("logps", "entropy")).batch(ROWS)
    assert torch.allclose(own.logps, whole.logps, atol=1e-5) and torch.equal(own.tokens, whole.tokens)
    for name, figures in own.statistics.items():
        assert torch.allclose(figures, whole.statistics[name], atol=1e-5), name
    prompts = [pairs.answers[row].prompt_ids for row in ROWS]
    alone = policy.token_statistics([EncodedRow(ids[:1], ids[1:]) for ids in prompts]).sums()
    assert torch.allclose(whole.prompt_logps, torch.cat([alone, torch.zeros(3)]), atol=1e-5), (
        "of the chosen answers alone"
    )
    assert own.prompt_logps is None and whole.pairs().chosen.prompt_logps is not None


def test_lengths_and_denominators_are_those_of_what_is_computed(policy, pairs):
    whole = count_prompts(pairs)
    for row in range(len(pairs)):
        chosen, rejected = (pairs.answers[int(place)] for place in pairs.places([row])[0])
        assert whole.lengths[row] == len(chosen) + len(rejected) == pairs.lengths[row] + len(chosen.prompt_ids)
        assert whole.wanted_tokens()[row] == len(chosen) - 1
        assert pairs.wanted_tokens()[row] == len(chosen.completion_ids)


def test_the_nll_that_is_shown_is_a_mean_over_all_of_these_tokens(policy, pairs):
    side = Answers(policy, count_prompts(pairs), None)
    total, count = side.nll_of_tokens(side.batch(ROWS), ROWS)
    chosen = [pairs.answers[row] for row in ROWS]
    whole = [EncodedRow(row.prompt_ids[:1], (*row.prompt_ids[1:], *row.completion_ids)) for row in chosen]
    assert total == pytest.approx(-float(policy.token_statistics(whole).sums().sum()), rel=1e-5)
    assert count == sum(map(len, chosen)) - len(chosen)


def test_orpo_trains_on_it_and_any_split_of_a_step_is_the_same(preferences, tiny_checkpoint, new_run):
    found = []
    options = {"nll_tokens": "prompt_and_answer", "beta": 0.0}
    steps = {"max_steps": 2, "batch_size": 16, "max_length": 64, "logging_steps": 1, "learning_rate": 5e-3}
    config = AlignConfig(method="orpo", options=options, **steps)
    for tokens in (4096, 64):
        run = new_run(f"of {tokens}", micro_batch_tokens=tokens)
        metrics = train_offline(config, policy=tiny_checkpoint, preferences=preferences, run=run)
        points = [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]
        found.append([point["loss"] for point in points if "loss" in point])
        assert metrics["nll_loss"] == pytest.approx(metrics["loss"], rel=1e-5), "beta is 0"
        assert metrics["eval_nll_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0][1] < found[0][0]
