"""Answers on disk: what a killed update left is taken up by that update alone, whole."""

import torch

from alignflow.models.batching import EncodedRow
from alignflow.models.rollouts import Rollouts
from alignflow.models.trainers.rollout_buffer import RolloutBuffer, RolloutsAhead


def answers(first=5):
    return Rollouts(
        torch.tensor([0, 1]),
        [EncodedRow((1, 2), (first, 6)), EncodedRow((3,), (7,))],
        torch.tensor([True, False]),
        torch.tensor([-0.1, -0.2, -0.3]),
        {"sampling/staleness": 1.0},
    )


def same(first, second):
    one, other = first.tensors(), second.tensors()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_answers_of_an_update_come_back_with_their_log_probabilities_and_figures(new_run):
    run = new_run()
    RolloutBuffer(run).keep_rollouts(3, answers())
    found = RolloutBuffer(run).rollouts(3)
    assert found is not None and same(found, answers()) and found.figures == {"sampling/staleness": 1.0}
    assert RolloutBuffer(run).rollouts(4) is None and RolloutBuffer(run).scored(3) is None


def test_answers_that_were_drawn_ahead_belong_to_their_update_and_their_prompts(new_run):
    run = new_run()
    ahead = RolloutsAhead(run)
    ahead.keep(1, 1, answers(8))
    ahead.keep(2, 2, answers(9))
    again = RolloutsAhead(run)
    for update, first in ((1, 8), (2, 9)):
        found = again.rollouts(update, update)
        assert found is not None and same(found, answers(first))
    assert again.rollouts(2, 5) is None and again.rollouts(3, 3) is None
