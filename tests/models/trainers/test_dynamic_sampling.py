"""Which answers an update takes from several rounds of sampling, and what is counted."""

import torch

from alignflow.models.batching import EncodedRow
from alignflow.models.rollouts import Rollouts
from alignflow.models.trainers.dynamic_sampling import (
    Draws,
    Sampled,
    chosen_rows,
    differing,
    draws_from,
    draws_of,
    joined,
    missing,
    update_of,
)

NAN = float("nan")


def sampled(scores, first=0, logps=True):
    """Answers of 1, 2, 1, ... tokens, two per prompt; token ids and log-probabilities say which answer they belong to."""
    rows = [EncodedRow((9,), (first + index,) * (1 + index % 2)) for index in range(len(scores))]
    behaviour = torch.tensor([float(token) for row in rows for token in row.completion_ids]) if logps else None
    prompts = torch.arange(first, first + len(scores)) // 2
    column = torch.tensor(scores, dtype=torch.float64)
    return Sampled(Rollouts(prompts, rows, torch.ones(len(rows)).bool(), behaviour), column, {"a": column})


def test_a_group_teaches_where_two_known_scores_differ():
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0, NAN, 1.0, NAN, NAN], dtype=torch.float64)
    assert differing(scores, 2).tolist() == [False, True, False, False]


def test_prompts_whose_answers_score_alike_give_their_place_to_further_ones():
    """Two prompts wanted; of four sampled the second and the third teach."""
    rounds = [sampled([1, 1, 0, 1]), sampled([0, 1, 0, 0], first=4)]
    assert missing(rounds[:1], 2) == 1 and missing(rounds, 2) == 0
    found, draws = update_of(rounds, 2)
    assert [row.completion_ids[0] for row in found.rollouts.rows] == [2, 3, 4, 5]
    assert found.rollouts.prompts.tolist() == [1, 1, 2, 2] and found.scores.tolist() == [0, 1, 0, 1]
    assert found.rollouts.behaviour_logps.tolist() == [2, 3, 3, 4, 5, 5], "log-probabilities go with their tokens"
    assert draws == Draws(rounds=2, groups=4, equal=2, unfilled=0, score=4, scored=8)


def test_an_update_that_is_not_filled_keeps_its_size_and_says_so():
    rounds = [sampled([1, 1, 0, 0]), sampled([0, 1, 0, 0], first=4)]
    found, draws = update_of(rounds, 2)
    assert [row.completion_ids[0] for row in found.rollouts.rows] == [4, 5, 0, 1] and draws.unfilled == 1


def test_figures_name_what_was_put_aside():
    draws = draws_of([torch.tensor([1.0, 1.0, 0.0, NAN], dtype=torch.float64)], 2, 0)
    assert draws.sums(dynamic=False) == {"frac_reward_zero_std": (2, 2)}
    assert draws.sums(dynamic=True)["dynamic_sampling/scores_of_all"] == (2.0, 3)


def test_draws_come_back_from_a_state():
    draws = Draws(2, 4, 2, 1, 0.1, 7)
    assert draws_from({"draws": draws.tensor()}) == draws and draws_from({}) is None


def test_rounds_are_joined_and_cut_again():
    rounds = [sampled([1, 1], logps=False), sampled([0, 1], first=2, logps=False)]
    whole = joined(rounds)
    again = chosen_rows(whole, [2, 3])
    assert again.rollouts.rows == rounds[1].rollouts.rows and again.parts["a"].tolist() == [0, 1]
    assert whole.rollouts.behaviour_logps is None and joined(rounds[:1]) is rounds[0]


def test_the_prompts_that_stayed_are_counted_over_all_processes(monkeypatch):
    monkeypatch.setattr("alignflow.models.engines.group.size", lambda: 2)
    shares = [Draws(2, 4, 2, unfilled, 1.0, 8).sums(True)["dynamic_sampling/unfilled"] for unfilled in (1, 2)]
    assert sum(total for total, _ in shares) / sum(count for _, count in shares) == 3
