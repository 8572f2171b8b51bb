"""A training that makes wanted answers less likely says so; one that does not is silent."""

import pytest
import torch

from alignflow.data.run import Runtime
from alignflow.models.policy import completion_logps, load_policy
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.displacement import wanted_logps, warn_of_displacement
from alignflow.models.trainers.offline_rows import read_paired


@pytest.fixture
def heldout(tiny_checkpoint, preferences, new_run):
    policy = load_policy(tiny_checkpoint, Runtime())
    return Answers(policy, read_paired(preferences / "heldout.parquet", policy.tokenizer, 64, new_run(), "align"), None)


def test_it_is_the_mean_over_tokens_of_the_chosen_answers(heldout, new_run):
    chosen = list(heldout.rows.answers)[: len(heldout.rows)]
    logps = torch.cat(completion_logps(heldout.policy, chosen, 8192))
    assert wanted_logps(heldout, new_run()) == pytest.approx(float(logps.mean()), rel=1e-5)


@pytest.mark.parametrize(("drop", "said"), [(0.6, True), (0.4, False), (-1.0, False)])
def test_it_is_said_where_the_answers_lose_more_than_the_limit(drop, said, heldout, new_run, capsys):
    now = wanted_logps(heldout, new_run())
    warn_of_displacement(now + drop, heldout, {"eval_logps/rejected": -9.0}, 0.5, new_run())
    assert ("likelihood displacement" in capsys.readouterr().out) is said


def test_without_wanted_answers_there_is_nothing_to_say(heldout, new_run, capsys):
    warn_of_displacement(None, heldout, {}, 0.5, new_run())
    assert not capsys.readouterr().out
