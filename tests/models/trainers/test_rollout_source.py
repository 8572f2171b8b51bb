"""Where an update's answers come from: sampled now, drawn ahead by the weights that the update before began with, or found on disk."""

import pytest
import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.generation.live import LiveSampler
from alignflow.models.policy import load_policy
from alignflow.models.rollouts import answer_statistics, encode_prompts
from alignflow.models.trainers import rollout_source
from alignflow.models.trainers.rollout_source import RolloutSource

OPTIONS = OnlineOptions(response_length=6, rollout_ahead=1)


@pytest.fixture
def place(tiny_checkpoint, new_run):
    """A policy, and what makes a source of its rollouts on one directory."""
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    rows = [{"id": f"q{i}", "prompt": user(f"the {word}")} for i, word in enumerate(("cat", "dog", "hill", "mat"))]
    prompts = encode_prompts(rows, policy.tokenizer, 64, new_run())

    def make(options=OPTIONS, run=None):
        sampler = LiveSampler(policy, tiny_checkpoint, None, 64)
        run = run or new_run()
        return RolloutSource(sampler, prompts, options, per_update=4, seed=0, total=4, run=run), run

    return policy, make


def learn(policy):
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1.3)


def answers(rollouts):
    return [row.completion_ids for row in rollouts.rows]


def test_answers_ahead_are_those_of_the_weights_before_the_update_that_trains_meanwhile(place):
    policy, make = place
    source, _ = make()
    found = []
    for update in range(4):
        rollouts = source.rollouts(update)
        ahead = source._drawing[2].result() if source._drawing else None
        if ahead is not None:
            assert ahead.figures["sampling/staleness"] == 1.0
            wanted = answer_statistics(policy, ahead.rows, ("logps",), 1.0)["logps"]
            torch.testing.assert_close(ahead.behaviour_logps, wanted, atol=1e-4, rtol=0)
        learn(policy)
        source.settle()
        found.append(rollouts)
        if ahead is not None:
            assert not torch.allclose(
                answer_statistics(policy, ahead.rows, ("logps",), 1.0)["logps"], ahead.behaviour_logps, atol=1e-3
            )
    assert found[0].behaviour_logps is None and [f.figures["sampling/staleness"] for f in found] == [0, 1, 1, 1]


def test_a_killed_run_finds_what_it_drew_and_draws_nothing_twice(place, monkeypatch):
    policy, make = place
    source, run = make()
    first = source.rollouts(0)
    source.settle()
    drawn = answers(source._kept.rollouts(1, 1))
    learn(policy)  # the state after update 0 has these weights
    monkeypatch.setattr(rollout_source, "sample_rollouts", lambda *a, **n: pytest.fail("drawn twice"))
    again, _ = make(run=run)
    assert answers(again.rollouts(0)) == answers(first), "killed before that state was saved"
    monkeypatch.undo()
    again, _ = make(run=run)
    assert answers(again.rollouts(1)) == drawn, "killed after it"


def test_lost_answers_are_drawn_by_the_present_weights_and_that_is_said(place):
    _, make = place
    source, run = make()
    found = source.rollouts(2)
    assert found.figures["sampling/staleness"] == 0.0
    assert any("answers of update 3 that were drawn ahead are missing" in warning for warning in run.warnings)


def test_without_ahead_nothing_is_drawn_early_and_no_staleness_is_shown(place):
    _, make = place
    source, run = make(OnlineOptions(response_length=6))
    found = source.rollouts(0)
    source.settle()
    assert found.figures == {} and source._drawing is None and not (run.work / "rollouts-ahead").exists()


def test_answers_ahead_to_other_prompts_than_the_update_takes_are_not_taken(place):
    """Where an update took more than one stretch of prompts, those that were begun ahead are another update's."""
    _, make = place
    source, run = make()
    source.rollouts(0)
    source.settle()
    found = source.rollouts(1, 3)
    assert found.figures["sampling/staleness"] == 0.0 and "drawn with the present weights" in run.warnings[0]
    assert answers(found) == answers(source.more(3))
