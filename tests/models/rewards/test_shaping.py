"""From a score per answer to a reward per token. fp64, tolerance 1e-12 unless said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.rewards.shaping import ScoreScale, adaptive_kl_coefficient, kl_penalised_rewards, shaped_scores
from alignflow.models.sequences import length_mask


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_score_stands_on_the_last_real_token_and_only_there():
    """kl_coef 0.5; logratios 1, -1, 0 and 2: penalties -0.5, 0.5, 0 and -1. The pads hold what must not be looked at."""
    nan = float("nan")
    logps, ref_logps = (
        torch.tensor([[-1.0, -2.0, -3.0], [-1.0, nan, 37.5]]),
        torch.tensor([[-2.0, -1.0, -3.0], [-3.0, 1e30, nan]]),
    )
    rewards = kl_penalised_rewards(torch.tensor([7.0, -9.0]), logps, ref_logps, length_mask(torch.tensor([3, 1])), 0.5)
    assert rewards.tolist() == [[-0.5, 0.5, 7.0], [-10.0, 0.0, 0.0]]


def test_a_row_without_tokens_gets_nothing():
    rewards = kl_penalised_rewards(
        tensor(5.0, 3.0), torch.zeros(2, 2).double(), torch.zeros(2, 2).double(), torch.tensor([[1, 0], [0, 0]]), 0.1
    )
    assert rewards.tolist() == [[5.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("estimator", "penalty"), [("k1", 0.5), ("k2", 0.125), ("k3", 0.6065306597126334 - 0.5)])
def test_the_penalty_by_each_estimator(estimator, penalty):
    rewards = kl_penalised_rewards(tensor(0.0), tensor([-1.0]), tensor([-1.5]), torch.ones(1, 1), 1.0, estimator)
    assert float(rewards[0, 0]) == pytest.approx(-penalty, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), coefficient=st.floats(0, 1))
def test_the_rewards_of_an_answer_add_up_to_its_score_less_the_penalty(seed, coefficient):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (4,), generator=generator)
    mask = length_mask(lengths)
    scores, logps, ref_logps = (
        torch.randn(4, generator=generator).double(),
        *torch.randn(2, *mask.shape, generator=generator).double(),
    )
    rewards = kl_penalised_rewards(scores, logps, ref_logps, mask, coefficient)
    wanted = scores - coefficient * ((logps - ref_logps) * mask).sum(1)
    torch.testing.assert_close(rewards.sum(1), wanted, atol=1e-12, rtol=1e-12)
    assert not rewards[~mask].any()


def test_scores_are_normalised_then_clipped_then_fined_for_a_missing_eos():
    options = OnlineOptions(score_clip=1.0, missing_eos_penalty=0.25)
    shaped = shaped_scores(tensor(9.0, 9.0, 3.5), torch.tensor([True, False, False]), ScoreScale(3.0, 2.0), options)
    assert shaped.tolist() == [1.0, 0.75, 0.0]
    assert shaped_scores(tensor(9.0), torch.tensor([False]), ScoreScale(), OnlineOptions()).tolist() == [9.0]


@pytest.mark.parametrize(
    ("observed", "factor"),
    [
        (6.0, 1.0),
        (7.0, 1 + (1 / 6) * 0.0256),
        (60.0, 1 + 0.2 * 0.0256),
        (0.0, 1 - 0.2 * 0.0256),
        (-3.0, 1 - 0.2 * 0.0256),
    ],
)
def test_the_adaptive_coefficient_follows_the_target(observed, factor):
    """Target 6, 256 answers, horizon 10000: the error is clipped at 0.2."""
    assert adaptive_kl_coefficient(0.1, observed, 6.0, 256, 10000) == pytest.approx(0.1 * factor, rel=1e-12)
