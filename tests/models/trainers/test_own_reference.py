"""What a policy says of its answers before training does not depend on which answers share a pass."""

import numpy as np
import pytest
import torch

from alignflow.data.run import Runtime
from alignflow.models.policy import Policy, load_policy
from alignflow.models.trainers.offline_rows import read_halves, read_paired
from alignflow.models.trainers.own_reference import mismatched_sums, own_scores


@pytest.fixture(scope="module")
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime())


def halves(preferences, policy, new_run):
    return read_halves(preferences / "train.parquet", policy.tokenizer, 64, new_run(), "align").with_mismatched(64)


def alone(policy, rows):
    return torch.cat([policy.token_statistics([row]).sums() for row in rows])


@torch.no_grad()
@pytest.mark.parametrize("micro_batch_tokens", [1, 200, 4096])
def test_scores_are_those_of_each_answer_alone(micro_batch_tokens, preferences, policy, new_run):
    rows = halves(preferences, policy, new_run)
    rows.mismatched[3] = -1
    scores = own_scores(policy, {"train": rows}, True, new_run(micro_batch_tokens=micro_batch_tokens))["train"]
    assert torch.allclose(scores.sums, alone(policy, rows.answers), atol=1e-4)
    known = np.flatnonzero(rows.mismatched >= 0)
    assert scores.mismatched.isnan().nonzero().flatten().tolist() == [3]
    others = [rows.mismatched_row(int(place)) for place in known]
    assert torch.allclose(scores.mismatched[known], alone(policy, others), atol=1e-4)
    of_tokens = scores.tokens.split(rows.answer_tokens.tolist())
    assert torch.allclose(torch.stack([part.sum() for part in of_tokens]), scores.sums, atol=1e-4)


def test_an_answer_and_the_one_to_another_prompt_beside_it_share_the_prompt(preferences, policy, new_run, monkeypatch):
    rows, run = halves(preferences, policy, new_run), new_run()
    seen, true = [], Policy.token_statistics
    monkeypatch.setattr(
        Policy, "token_statistics", lambda self, given, *a, **k: seen.append(given) or true(self, given, *a, **k)
    )
    own_scores(policy, {"train": rows}, False, run)
    assert sum(map(len, seen)) == 2 * len(rows.answers)
    for given in seen:
        half = len(given) // 2
        assert [row.prompt_ids for row in given[:half]] == [row.prompt_ids for row in given[half:]]


def test_pairs_have_no_scores_of_answers_to_other_prompts(preferences, policy, new_run):
    rows = read_paired(preferences / "train.parquet", policy.tokenizer, 64, new_run(), "align")
    scores = own_scores(policy, {"train": rows}, False, new_run())["train"]
    assert scores.mismatched is None and scores.tokens is None and len(scores.sums) == len(rows.answers)


def test_they_are_those_that_a_step_computes(preferences, policy, new_run):
    rows, run = halves(preferences, policy, new_run), new_run()
    scores = own_scores(policy, {"train": rows}, False, run)["train"]
    places = [5, 0, 9]
    assert torch.allclose(mismatched_sums(policy, rows, places, run), scores.mismatched[places], atol=1e-4)
