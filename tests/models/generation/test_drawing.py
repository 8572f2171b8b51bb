"""Drawing tokens: right frequencies, the cuts of top-p and top-k, and streams that depend on the row's seed alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.models.generation.base import Sampling, row_seed
from alignflow.models.generation.drawing import draw, drawn_logps, uniform_streams

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def frequencies(sampling, count=20000):
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens = draw(LOGITS.expand(count, -1), uniform, sampling)
    return [round(float((tokens == token).double().mean()), 3) for token in range(4)]


def test_tokens_come_as_often_as_their_probability():
    assert frequencies(Sampling(1)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-3)


def test_temperature_sharpens():
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05]) ** 2
    assert frequencies(Sampling(1, temperature=0.5)) == pytest.approx((weights / weights.sum()).tolist(), abs=2e-3)


def test_temperature_zero_takes_the_best():
    assert frequencies(Sampling(1, temperature=0)) == [1, 0, 0, 0]


def test_top_k_leaves_k_tokens():
    assert frequencies(Sampling(1, top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-3)


def test_top_p_leaves_the_smallest_set_that_reaches_it():
    assert frequencies(Sampling(1, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-3)
    assert frequencies(Sampling(1, top_p=0.4)) == [1, 0, 0, 0]


def test_top_p_cuts_what_top_k_left():
    # After top_k=2 the first token has 0.625 of what is left: enough for top_p=0.6 on its own.
    assert frequencies(Sampling(1, top_k=2, top_p=0.6)) == [1, 0, 0, 0]


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=30),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([1.0, 0.9, 0.3]),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_a_token_without_probability_is_never_drawn(values, uniform, top_p, top_k):
    logits = torch.tensor([[*values, -torch.inf]])
    token = draw(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(1, 1.0, top_p, top_k))
    assert 0 <= int(token) < len(values)


def test_the_largest_uniform_number_stays_inside_the_distribution():
    logits = torch.full((1, 4), -torch.inf)
    logits[0, 1] = 0
    assert int(draw(logits, torch.tensor([1 - 2**-53], dtype=torch.float64), Sampling(1))) == 1


def test_a_stream_depends_on_its_own_seed_alone():
    alone, together = uniform_streams([7], 5), uniform_streams([3, 7, 2**64 - 1], 5)
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[2])


def test_row_seeds_differ_by_seed_row_and_index():
    seeds = {row_seed(seed, row, index) for seed in (0, 1) for row in ("a", "b") for index in (0, 1)}
    assert len(seeds) == 8 and all(0 <= seed < 2**64 for seed in seeds)


@given(st.integers(1, 2000), st.integers(0, 2**32), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_the_token_is_the_first_whose_cumulative_probability_exceeds_the_number(vocabulary, seed, uniform):
    logits = 4 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed))
    cumulative = torch.softmax(logits, -1)[0].double().cumsum(-1)
    below = int((cumulative <= uniform * cumulative[-1]).sum())
    token = int(draw(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(1)))
    near = abs(float(cumulative[min(token, below)] - uniform * cumulative[-1])) < 1e-12  # the order of the sum decides
    assert token == min(below, vocabulary - 1) or near


@pytest.mark.parametrize("cut", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 3, "top_p": 0.6}, {"temperature": 0.5}])
def test_log_probabilities_are_those_of_the_distribution_that_is_drawn_from(cut):
    sampling = Sampling(1, **cut)
    found = torch.tensor(frequencies(sampling), dtype=torch.float64)
    for token in found.nonzero()[:, 0]:
        logp = drawn_logps(LOGITS[None], token[None], sampling)
        assert logp.dtype == torch.float32
        assert float(logp.exp()) == pytest.approx(float(found[token]), abs=2e-3)


def test_greedy_decoding_has_no_choice():
    assert drawn_logps(LOGITS[None], torch.tensor([0]), Sampling(1, temperature=0)).tolist() == [0.0]
