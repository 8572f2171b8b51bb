"""Advantages: hand-worked numbers, and the laws that hold for any numbers. fp64 throughout; tolerance 1e-12 unless said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.data.configs.online import PPOOptions
from alignflow.models.advantages import RewardBatch, discounted_returns, gae, gae_advantages, whiten
from alignflow.models.sequences import chosen_tokens, flattened, length_mask, padded, row_numbers

WILD = torch.tensor([float("nan"), float("inf"), -1e30], dtype=torch.float64)


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=tolerance)


def batch(seed, rows=3, time=5):
    """Rewards, values, a mask from lengths (one row full, none empty), and wild numbers wherever the mask is not."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(rows, time, generator=generator, dtype=torch.float64) for _ in range(2))
    lengths = torch.cat([torch.tensor([time]), torch.randint(1, time + 1, (rows - 1,), generator=generator)])
    mask = length_mask(lengths)
    for tensor in (rewards, values):
        tensor[~mask] = WILD[torch.randint(0, 3, (int((~mask).sum()),), generator=generator)]
    return rewards, values, mask


def test_gae_by_hand():
    """gamma 0.5, lam 0.5, rewards 1, 2, 4 and values 2, 4, 8, so from the back:
    delta_3 = 4 - 8 = -4;                A_3 = -4
    delta_2 = 2 + 0.5 * 8 - 4 = 2;       A_2 = 2 + 0.25 * -4 = 1
    delta_1 = 1 + 0.5 * 4 - 2 = 1;       A_1 = 1 + 0.25 * 1 = 1.25
    returns A + V: 3.25, 5, 4."""
    advantages, returns = gae(
        torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[2.0, 4.0, 8.0]]), torch.ones(1, 3, dtype=torch.bool), 0.5, 0.5
    )
    close(advantages, [[1.25, 1.0, -4.0]])
    close(returns, [[3.25, 5.0, 4.0]])


def test_the_value_after_the_last_token_is_zero_whatever_stands_there():
    mask = torch.tensor([[True, False]])
    advantages, returns = gae(torch.tensor([[1.0, float("nan")]]), torch.tensor([[0.25, 1e9]]), mask, 1.0, 0.95)
    close(advantages, [[0.75, 0.0]])
    close(returns, [[1.0, 0.0]])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.1, 1.0))
def test_with_lambda_1_and_no_values_advantages_are_the_returns(seed, gamma):
    rewards, _, mask = batch(seed)
    advantages, returns = gae(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)
    close(advantages, discounted_returns(rewards, mask, gamma))
    close(returns, advantages)
    clean = torch.where(mask, rewards, torch.zeros_like(rewards))
    first = sum(gamma**time * clean[:, time] for time in range(clean.shape[1]))
    close(advantages[:, 0], first)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), lam=st.floats(0.0, 1.0))
def test_masked_places_are_zero_and_never_leak(seed, lam):
    rewards, values, mask = batch(seed)
    advantages, returns = gae(rewards, values, mask, 1.0, lam)
    assert advantages.isfinite().all() and not advantages[~mask].any() and not returns[~mask].any()


def test_lambda_0_is_the_temporal_difference():
    rewards, values, mask = batch(3)
    advantages, _ = gae(rewards, values, mask, 0.9, 0.0)
    clean = torch.where(mask, values, torch.zeros_like(values))
    following = torch.cat([clean[:, 1:], torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    close(advantages[mask], (rewards + 0.9 * following - clean)[mask])


def test_whitening_by_hand():
    """1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, unbiased variance 14 / 3."""
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    whole = torch.ones(2, 2, dtype=torch.bool)
    deviation = (14 / 3 + 1e-8) ** 0.5
    close(whiten(values, whole), [[-2 / deviation, -1 / deviation], [0.0, 3 / deviation]])
    close(whiten(values, whole, shift_mean=False), [[3 - 2 / deviation, 3 - 1 / deviation], [3.0, 3 + 3 / deviation]])
    close(whiten(values, whole, unbiased=False), values.sub(3) / (14 / 4 + 1e-8) ** 0.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_whitened_advantages_have_mean_0_and_variance_1_and_whitened_rewards_keep_their_mean(seed):
    rewards, _, mask = batch(seed)
    white = whiten(rewards, mask)
    close(white[mask].mean(), 0.0, 1e-9)
    close(white[mask].var(), 1.0, 1e-6)
    close(whiten(rewards, mask, shift_mean=False)[mask].mean(), rewards[mask].mean(), 1e-9)
    assert not white[~mask].any()


@pytest.mark.parametrize("value", [0.0, -7.5])
def test_a_single_token_whitens_to_zero_and_not_to_infinity(value):
    """Bessel's n - 1 would divide by zero."""
    values, mask = torch.tensor([[value, float("nan")]]), torch.tensor([[True, False]])
    close(whiten(values, mask), [[0.0, 0.0]])
    close(whiten(values, mask, shift_mean=False), [[value, 0.0]])


def test_whitening_runs_over_all_processes():
    """Two halves that are given the sums of the whole come out as the whole does."""
    rewards, _, mask = batch(5, rows=4)
    whole, seen = whiten(rewards, mask), []

    def record(tensor):
        seen.append(tensor)
        return tensor

    whiten(rewards, mask, total=record)

    def told(part):
        sums = iter(seen)
        return whiten(rewards[part], mask[part], total=lambda _: next(sums))

    close(torch.cat([told(slice(0, 2)), told(slice(2, 4))]), whole)


def test_the_estimator_whitens_advantages_but_not_returns():
    rewards, values, mask = batch(1)
    wanted, returns = gae(rewards, values, mask, 1.0, 0.95)
    found = gae_advantages(RewardBatch(rewards, values, mask, torch.arange(3)), PPOOptions())
    close(found.advantages, whiten(wanted, mask))
    close(found.returns, returns)
    plain = gae_advantages(RewardBatch(rewards, values, mask, torch.arange(3)), PPOOptions(whiten_advantages=False))
    close(plain.advantages, wanted)


@pytest.mark.parametrize("name", list(catalogue.ADVANTAGES))
def test_every_estimator_answers_a_batch_in_its_shape(name):
    rewards, values, mask = batch(2)
    found = catalogue.ADVANTAGES[name].resolve()(RewardBatch(rewards, values, mask, torch.arange(3)), PPOOptions())
    assert found.advantages.shape == rewards.shape and not found.advantages[~mask].any()


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6), data=st.data())
def test_flat_and_padded_shapes_are_the_same_numbers(lengths, data):
    sizes = torch.tensor(lengths)
    flat = torch.arange(int(sizes.sum()), dtype=torch.float64)
    assert torch.equal(flattened(padded(flat, sizes), sizes), flat)
    rows = data.draw(st.permutations(range(len(lengths))))[: max(1, len(lengths) // 2)]
    parts = flat.split(lengths)
    wanted = torch.cat([parts[row] for row in rows])
    assert torch.equal(flat[chosen_tokens(sizes, torch.tensor(rows))], wanted)
    assert row_numbers(sizes).tolist() == [row for row, size in enumerate(lengths) for _ in range(size)]
