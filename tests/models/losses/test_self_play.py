"""Self-play on policies small enough to know the answer: a bandit with a known optimum, and a game that no reward describes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from alignflow.data.configs.iterated import DNOOptions, IteratedDPOOptions, SPPOOptions
from alignflow.data.configs.options import NoOptions
from alignflow.models.losses.base import PairBatch, answers_of_tokens, pairs_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.self_play import dno, raft, sppo

ARMS = torch.arange(3)
ROCK_PAPER_SCISSORS = torch.tensor([[0.5, 0.1, 0.9], [0.9, 0.5, 0.35], [0.1, 0.65, 0.5]]).double()
"""P(the row's arm beats the column's): each beats one and loses to another, by different margins."""


def of_arms(logps, reference, better, worse, rates, soft=None):
    """Pairs of arms of a bandit: an answer of one token each."""
    mask = torch.ones(len(better), 1)
    sides = [(values[better][:, None], values[worse][:, None]) for values in (logps, reference)]
    batch = pairs_of_tokens(sides[0], (mask, mask), sides[1], soft)
    return PairBatch(replace(batch.chosen, score=rates[better]), replace(batch.rejected, score=rates[worse]))


def minimised(loss, start, steps):
    """The logits that minimise a loss of log-probabilities, from the start's."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(torch.log_softmax(logits, 0))
        value.backward()
        return value

    optimizer.step(closure)
    return torch.log_softmax(logits.detach(), 0)


def a_round(method, options, start, reference, preferences, steps):
    """A round of a method in expectation: all pairs that two samples of the starting policy can make, by how often they are drawn."""
    rates = preferences @ start.exp()
    better, worse = torch.combinations(torch.arange(len(start))).T
    turned = rates[better] < rates[worse]
    better, worse = torch.where(turned, worse, better), torch.where(turned, better, worse)
    often = (start[better] + start[worse]).exp()
    soft = preferences[better, worse]

    def loss(logps):
        return (often * method(of_arms(logps, reference, better, worse, rates, soft), options).loss).sum() / often.sum()

    return minimised(loss, start, steps)


def played(method, options, preferences, rounds, fixed=False, steps=6):
    """The policies after each round; the reference is the round's start, or the first policy."""
    first = torch.log_softmax(torch.zeros(len(preferences), dtype=torch.float64), 0)
    policies = [first]
    for _ in range(rounds):
        reference = first if fixed else policies[-1]
        policies.append(a_round(method, options, policies[-1], reference, preferences, steps))
    return torch.stack([policy.exp() for policy in policies])


def exploitability(policy, preferences):
    """What the best answer to a policy wins more than half."""
    return float((preferences @ policy).max() - 0.5)


def equilibrium(preferences):
    """The mixed Nash equilibrium, by linear programming: the policy whose worst opponent wins least."""
    game = preferences.numpy() - 0.5
    count = len(game)
    found = linprog(
        [0.0] * count + [-1.0],
        A_ub=np.hstack([-game.T, np.ones((count, 1))]),
        b_ub=np.zeros(count),
        A_eq=[[1.0] * count + [0.0]],
        b_eq=[1.0],
        bounds=[(0, 1)] * count + [(None, None)],
    )
    return torch.tensor(found.x[:count])


REWARDS = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.5]).double()
BRADLEY_TERRY = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_iterated_dpo_reaches_the_best_kl_regularised_policy_of_a_bandit(beta):
    """iterative_dpo, dno_prct and self_rewarding share this loss; labels are those of a judge with the bandit's rewards."""
    policy = played(dpo, IteratedDPOOptions(beta=beta, use_soft_labels=True), BRADLEY_TERRY, 3, fixed=True, steps=25)[
        -1
    ]
    uniform = torch.full_like(policy, 1 / len(policy))
    objective = policy @ REWARDS - beta * (policy * (policy / uniform).log()).sum()
    best = beta * (torch.logsumexp(REWARDS / beta, 0) - np.log(len(policy)))
    assert float(objective) >= 0.95 * float(best)


@pytest.mark.parametrize(("method", "options"), [(sppo, SPPOOptions(eta=4.0)), (dno, DNOOptions(eta=0.2))])
def test_self_play_finds_the_best_arm_of_a_bandit(method, options):
    policy = played(method, options, BRADLEY_TERRY, 8)[-1]
    assert float(policy @ REWARDS) >= 0.95 * float(REWARDS.max())


@pytest.mark.parametrize(("method", "options"), [(sppo, SPPOOptions(eta=0.5)), (dno, DNOOptions(eta=2.0))])
def test_the_mean_of_self_plays_policies_is_the_equilibrium_of_a_game_without_a_best_arm(method, options):
    nash = equilibrium(ROCK_PAPER_SCISSORS)
    assert exploitability(nash, ROCK_PAPER_SCISSORS) < 1e-6 and float(nash.min()) > 0.1
    mean = played(method, options, ROCK_PAPER_SCISSORS, 70).mean(0)
    assert exploitability(mean, ROCK_PAPER_SCISSORS) < 0.03
    assert torch.allclose(mean, nash, atol=0.08)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5])
def test_a_reward_cannot_describe_that_game(beta):
    policies = played(
        dpo, IteratedDPOOptions(beta=beta, use_soft_labels=True), ROCK_PAPER_SCISSORS, 5, fixed=True, steps=25
    )
    assert exploitability(policies.mean(0), ROCK_PAPER_SCISSORS) > 0.06
    assert exploitability(policies[-1], ROCK_PAPER_SCISSORS) > 0.06


def test_of_win_rates_of_one_half_nothing_is_learnt_and_the_loss_is_0_at_the_reference():
    logps = torch.log_softmax(torch.tensor([0.1, 0.2, 0.3]).double(), 0)
    batch = of_arms(logps, logps, ARMS[:1], ARMS[1:2], torch.full((3,), 0.5).double())
    assert float(sppo(batch, SPPOOptions()).loss) == 0
    assert float(dno(batch, DNOOptions()).loss) == pytest.approx(np.log(2))


def test_hard_targets_are_the_whole_squares_of_1_and_0_and_need_no_win_rates():
    logps = torch.tensor([-1.0, -2.0]).double()
    batch = pairs_of_tokens(
        (logps[:1, None], logps[1:, None]), (torch.ones(1, 1),) * 2, (torch.zeros(1, 1).double(),) * 2
    )
    loss = sppo(batch, SPPOOptions(eta=4.0, targets="hard")).loss
    assert float(loss) == pytest.approx((-1 - 2) ** 2 + (-2 + 2) ** 2)
    with pytest.raises(ValueError, match="win rates"):
        sppo(batch, SPPOOptions())


def test_raft_is_the_nll_of_what_was_kept_over_tokens():
    logps, mask = torch.tensor([[-1.0, -3.0], [-2.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
    output = raft(answers_of_tokens(logps, mask), NoOptions())
    assert output.token_loss.tolist() == [4.0, 2.0] and output.loss.tolist() == [0.0, 0.0]
