"""Divergences between two distributions over a vocabulary: their laws, and what becomes of logits at the limits of their type."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.models.token_statistics import ARGMAX_BLOCK, STATISTICS, Chunk, first_largest

DIVERGENCES = ("forward_kl", "reverse_kl", "generalized_jsd")
TYPES = [torch.float32, torch.float64]
LOGITS = st.lists(st.floats(-30, 30), min_size=4, max_size=4)
BETAS = st.floats(0.01, 0.99)
RULED_OUT = float("-inf")


def chunk(policy, reference, beta=0.5, dtype=torch.float64):
    logits, other = (torch.as_tensor(rows, dtype=dtype).reshape(-1, len(rows)) for rows in (policy, reference))
    return Chunk(logits, torch.zeros(len(logits)).long(), 1, other, jsd_beta=beta)


def value(name, *arguments, **named):
    return STATISTICS[name].value(chunk(*arguments, **named))


def gradient(name, *arguments, **named):
    found = chunk(*arguments, **named)
    values = STATISTICS[name].value(found)
    return STATISTICS[name].gradient(chunk(*arguments, **named), values, torch.ones_like(values))


@settings(max_examples=50, deadline=None)
@given(policy=LOGITS, reference=LOGITS, beta=BETAS)
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_never_negative_and_its_gradient_sums_to_0(name, policy, reference, beta):
    assert float(value(name, policy, reference, beta)) >= -1e-12
    assert abs(float(gradient(name, policy, reference, beta).sum())) < 1e-10


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_distribution_diverges_from_itself_by_nothing_also_without_a_gradient(name, dtype):
    logits = [0.3, -20.0, 40.0, 39.0, RULED_OUT]
    rounding = 0.0 if name.endswith("kl") else 1e-6  # the mixture is a logarithm of its own
    assert abs(float(value(name, logits, logits, 0.3, dtype))) <= rounding
    assert float(gradient(name, logits, logits, 0.3, dtype).abs().max()) <= rounding


@settings(max_examples=50, deadline=None)
@given(policy=LOGITS, reference=LOGITS, beta=BETAS)
def test_the_jensen_shannon_divergence_is_symmetric_with_the_weights_swapped_and_bounded_by_the_entropy_of_the_weights(
    policy, reference, beta
):
    one, other = (
        value("generalized_jsd", policy, reference, beta),
        value("generalized_jsd", reference, policy, 1 - beta),
    )
    torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)
    assert float(one) <= -(beta * math.log(beta) + (1 - beta) * math.log1p(-beta)) + 1e-12


def test_at_beta_one_half_the_two_models_may_be_swapped():
    one, other = [0.3, -2.0, 1.0, 0.0], [-1.0, 2.0, 0.5, 0.1]
    torch.testing.assert_close(
        value("generalized_jsd", one, other), value("generalized_jsd", other, one), atol=1e-14, rtol=1e-14
    )


@pytest.mark.parametrize(("beta", "weight", "limit"), [(1e-6, 1e-6, "forward_kl"), (1 - 1e-6, 1e-6, "reverse_kl")])
def test_near_the_ends_of_beta_the_divergence_over_its_weight_is_a_kl(beta, weight, limit):
    """At the ends themselves it is the KL without a weight, as in TRL."""
    one, other = [0.3, -2.0, 1.0, 0.0], [-1.0, 2.0, 0.5, 0.1]
    for kind in (value, gradient):
        torch.testing.assert_close(
            kind("generalized_jsd", one, other, beta) / weight, kind(limit, one, other), atol=1e-4, rtol=1e-4
        )
        assert torch.equal(kind("generalized_jsd", one, other, round(beta)), kind(limit, one, other))


def test_values_worked_out_by_hand():
    policy, reference = [math.log(0.5), math.log(0.5)], [math.log(0.9), math.log(0.1)]
    assert float(value("forward_kl", policy, reference)) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    assert float(value("reverse_kl", policy, reference)) == pytest.approx(0.5 * math.log(1 / 1.8) + 0.5 * math.log(5))
    wanted = 0.25 * (0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)) + 0.75 * (
        0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4)
    )
    assert float(value("generalized_jsd", policy, reference, 0.25)) == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [*DIVERGENCES, "entropy"])
@pytest.mark.parametrize(
    ("policy", "reference"),
    [
        ([600.0, 0.0, -600.0], [-600.0, 0.0, 600.0]),
        ([1e4, 0.0, 0.0], [0.0, 1e4, 0.0]),
        ([0.0, 1.0, RULED_OUT], [1.0, 0.0, RULED_OUT]),
        ([0.0, RULED_OUT, RULED_OUT], [0.0, RULED_OUT, RULED_OUT]),
        ([0.0, -16.2, -17.0], [0.0, -16.0, -18.0]),
    ],
    ids=["600_nats", "peaked", "ruled_out_in_both", "one_token_left", "probability_within_1e-7_of_1"],
)
def test_values_and_gradients_are_finite_at_the_limits_of_the_type(name, policy, reference, dtype):
    assert (
        value(name, policy, reference, 0.3, dtype).isfinite().all()
        and gradient(name, policy, reference, 0.3, dtype).isfinite().all()
    )
    leaf = torch.tensor([policy], dtype=dtype, requires_grad=True)
    STATISTICS[name].value(
        Chunk(leaf, torch.tensor([0]), 1, torch.tensor([reference], dtype=dtype), jsd_beta=0.3)
    ).sum().backward()
    torch.testing.assert_close(leaf.grad, gradient(name, policy, reference, 0.3, dtype), atol=1e-6, rtol=1e-5)


def test_a_token_that_one_model_alone_rules_out_makes_a_kl_infinite_and_not_the_jensen_shannon_divergence():
    ruled_out, not_so = [0.0, RULED_OUT], [0.0, 0.0]
    assert (
        float(value("forward_kl", ruled_out, not_so)) == math.inf
        and float(value("reverse_kl", not_so, ruled_out)) == math.inf
    )
    assert float(value("forward_kl", not_so, ruled_out)) == pytest.approx(math.log(2))
    for pair in ((ruled_out, not_so), (not_so, ruled_out)):
        found = chunk(*pair, 0.4)
        assert (
            STATISTICS["generalized_jsd"].value(found).isfinite().all()
            and gradient("generalized_jsd", *pair, 0.4).isfinite().all()
        )


def test_logits_that_are_not_numbers_are_not_hidden():
    assert all(value(name, [float("nan"), 0.0], [0.0, 0.0]).isnan().all() for name in DIVERGENCES)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_fp32_agrees_with_fp64(name):
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(4096, generator=generator, dtype=torch.float64) * 4 for _ in range(2))
    for kind in (value, gradient):
        wide, narrow = (
            kind(name, policy.tolist(), reference.tolist(), 0.3, dtype) for dtype in (torch.float64, torch.float32)
        )
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [1, ARGMAX_BLOCK - 1, ARGMAX_BLOCK, ARGMAX_BLOCK + 1, 3 * ARGMAX_BLOCK + 5])
def test_the_most_probable_token_is_the_first_of_equal_ones_as_by_argmax(width):
    generator = torch.Generator().manual_seed(width)
    many_ties = torch.randint(0, 4, (200, width), generator=generator).float()
    few = torch.randn(200, width, generator=generator)
    last = torch.arange(width).float()[None]
    ruled_out = torch.full((1, width), RULED_OUT)
    for logits in (many_ties, few, last, ruled_out):
        assert torch.equal(first_largest(logits), logits.argmax(-1))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "logits",
    [[600.0, 0.0, -600.0], [0.0, -16.2, -17.0], [1e4, 0.0, RULED_OUT], [0.0] * 3],
    ids=["600_nats", "probability_within_1e-7_of_1", "ruled_out", "equal"],
)
def test_log_probabilities_keep_their_digits_at_the_limits_of_the_type(logits, dtype):
    wide = torch.tensor([logits] * 3, dtype=torch.float64).log_softmax(-1)
    found = Chunk(torch.tensor([logits] * 3, dtype=dtype), torch.arange(3), 1, None)
    values = STATISTICS["logps"].value(found)
    torch.testing.assert_close(
        values.double(), wide.diagonal(), atol=3 * torch.finfo(dtype).eps, rtol=3 * torch.finfo(dtype).eps
    )
