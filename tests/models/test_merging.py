"""Merges of deltas: values by hand, laws, agreement with peft, and figures about deltas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils import merge_utils

from alignflow.models import merging

TYPES = [torch.float32, torch.float64]
ENTRIES = st.lists(st.floats(-10, 10, allow_subnormal=False, width=32), min_size=1, max_size=12)


def deltas(*shape, count=2, dtype=torch.float64):
    return list(torch.randn(count, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype))


def test_a_lora_delta_is_what_peft_adds_to_the_weight():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(5, 4)), LoraConfig(r=2, lora_alpha=16, target_modules=["0"])
    )
    layer = model.base_model.model[0]
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    ours = merging.lora_delta(layer.lora_A["default"].weight, layer.lora_B["default"].weight, 16)
    torch.testing.assert_close(ours, layer.get_delta_weight("default"))


@given(entries=ENTRIES, density=st.floats(0, 1))
def test_trimming_keeps_the_greatest_magnitudes_the_first_of_equal_ones(entries, density):
    delta = torch.tensor(entries)
    kept = sorted(range(len(entries)), key=lambda place: (-abs(entries[place]), place))[: int(density * len(entries))]
    wanted = [value if place in kept else 0.0 for place, value in enumerate(entries)]
    assert merging.magnitude_trim(delta, density).tolist() == delta.new_tensor(wanted).tolist()


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.7, 1.3]])
@pytest.mark.filterwarnings("ignore:The density")
def test_ties_by_count_and_task_arithmetic_are_pefts(density, weights):
    given_deltas = deltas(6, 5)
    theirs = merge_utils.ties(given_deltas, torch.tensor(weights, dtype=torch.float64), density)
    torch.testing.assert_close(merging.ties_merge(given_deltas, weights, density), theirs)
    linear = merge_utils.task_arithmetic(given_deltas, torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(merging.task_arithmetic(given_deltas, weights), linear)


def test_ties_drops_the_entries_of_the_losing_sign_and_counts_no_zeros():
    first, second, third = torch.tensor([[3.0, 0.0, -1.0, 2.0], [-1.0, 4.0, 1.0, -2.0], [1.0, 2.0, 0.0, 0.0]])
    assert merging.ties_merge([first, second, third], [1.0, 1.0, 1.0], 1.0).tolist() == [
        2.0,
        3.0,
        1.0,
        2.0,
    ]  # a tied vote is +
    assert merging.ties_merge([first, second, third], [0.5, 1.0, 1.5], 1.0, "weight").tolist() == pytest.approx(
        [1.5, 2.8, 1.0, 2.0]
    )
    assert merging.ties_merge([first, second, third], [0.5, 1.0, 1.5], 1.0, "count").tolist() == pytest.approx(
        [1.5, 3.5, 1.0, 1.0]
    )


@pytest.mark.parametrize("divisor", ["count", "weight"])
@pytest.mark.parametrize("dtype", TYPES)
def test_merging_a_delta_with_itself_returns_it(divisor, dtype):
    delta = deltas(4, 3, dtype=dtype)[0]
    torch.testing.assert_close(merging.ties_merge([delta, delta], [1.0, 1.0], 1.0, divisor), delta)
    torch.testing.assert_close(merging.task_arithmetic([delta, delta], [0.25, 0.75]), delta)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(merging.slerp(delta, delta, t), delta)


@pytest.mark.parametrize("divisor", ["count", "weight"])
@given(entries=ENTRIES)
@settings(deadline=None, max_examples=30)
def test_density_1_ties_of_deltas_that_agree_is_their_mean(divisor, entries):
    first = torch.tensor(entries, dtype=torch.float64)
    second = 3 * first
    torch.testing.assert_close(merging.ties_merge([first, second], [1.0, 1.0], 1.0, divisor), 2 * first)


def test_dare_keeps_what_the_mask_says_and_divides_by_the_density():
    delta = torch.tensor([1.0, -2.0, float("nan")])
    assert merging.dare(delta, 0.5, torch.tensor([1, 1, 0])).tolist() == [2.0, -4.0, 0.0]
    torch.testing.assert_close(merging.dare(deltas(3)[0], 1.0, torch.ones(3)), deltas(3)[0])


def test_dare_draws_the_same_entries_from_the_same_seed_and_keeps_the_sum_in_the_mean():
    delta = torch.ones(100_000)
    first, again, other = (
        merging.dare(delta, 0.3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.unique().tolist() == [0.0, pytest.approx(1 / 0.3)]
    assert float(first.mean()) == pytest.approx(1, abs=4 * (0.7 / 0.3 / 100_000) ** 0.5)  # four standard errors


def test_slerp_turns_at_a_constant_rate_and_keeps_the_length_of_deltas_of_one_length():
    a, b = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    for t in (0.0, 0.25, 0.5, 1.0):
        wanted = torch.tensor([[2 * math.cos(t * math.pi / 2), 2 * math.sin(t * math.pi / 2)]]).double()
        torch.testing.assert_close(merging.slerp(a, b, t), wanted)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("b", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0 + 1e-6]])
def test_slerp_is_finite_and_a_line_where_there_is_no_arc(b, dtype):
    a, b = torch.tensor([1.0, 2.0], dtype=dtype), torch.tensor(b, dtype=dtype)
    torch.testing.assert_close(merging.slerp(a, b, 0.25), 0.75 * a + 0.25 * b)


def test_slerp_of_nearly_parallel_deltas_is_exact_where_an_arc_cosine_is_not():
    angle = 1e-7
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([math.cos(angle), math.sin(angle)]).double()
    assert float(merging.slerp(a, b, 0.3)[1]) == pytest.approx(math.sin(0.3 * angle), rel=1e-12)


def test_soft_threshold_is_the_proximal_step_of_the_l1_penalty():
    delta, points = deltas(20)[0], torch.linspace(-4, 4, 8001).double()
    found = merging.soft_threshold(delta, 0.4)
    for value, step in zip(delta, found, strict=True):
        objective = (points - value).square() / 2 + 0.4 * points.abs()
        assert float(step) == pytest.approx(float(points[objective.argmin()]), abs=1e-3)
    assert (found == 0).sum() == (delta.abs() <= 0.4).sum() > 0


def test_the_l1_penalty_adds_up_over_tensors_and_has_gradient_0_at_0():
    a, b = (
        torch.tensor([1.0, 0.0, -2.0], requires_grad=True),
        torch.tensor([[3.0]], dtype=torch.bfloat16, requires_grad=True),
    )
    penalty = merging.l1_penalty([a, b], 0.5)
    penalty.backward()
    assert float(penalty) == 3.0 and a.grad.tolist() == [0.5, 0, -0.5] and penalty.dtype == torch.float32
    assert float(merging.l1_penalty([], 0.5)) == 0


def test_sparsity_counts_entries_of_all_matrices_within_the_tolerance():
    found = [torch.tensor([0.0, 1e-5, -1e-6]), torch.tensor([[1.0, 2e-5]])]
    assert merging.sparsity(found) == pytest.approx(3 / 5) and merging.sparsity(found, 0.0) == pytest.approx(1 / 5)
    assert merging.sparsity([]) is None


def test_sign_conflicts_are_counted_among_the_entries_that_both_changed():
    first, second = torch.tensor([1.0, -1.0, 0.0, 2.0, 1e-6]), torch.tensor([-1.0, -2.0, 5.0, 3.0, -1.0])
    assert merging.sign_conflict_rate([(first, second)]) == 0.5 and merging.sign_conflict_rate(
        [(first, second)], 1e-5
    ) == pytest.approx(1 / 3)
    assert merging.sign_conflict_rate([(first, first), (second, second)]) == 0
    assert merging.sign_conflict_rate([(first, torch.zeros(5))]) is None


def test_the_cosine_is_that_of_all_matrices_as_one_vector():
    first, second = deltas(8)
    parts = [(first[:3], second[:3]), (first[3:].view(1, 5), second[3:].view(1, 5))]
    assert merging.cosine(parts) == pytest.approx(float(torch.cosine_similarity(first, second, dim=0)))
    assert merging.cosine([(first, -2 * first)]) == pytest.approx(-1) and merging.cosine([(first, 0 * second)]) is None


@pytest.mark.parametrize(
    "merge",
    [
        lambda a, b: merging.ties_merge([a, b], [1.0, 1.0], 0.6),
        lambda a, b: merging.task_arithmetic([a, b], [0.3, 0.7]),
        lambda a, b: merging.slerp(a, b, 0.4),
        lambda a, b: merging.dare(a, 0.5, torch.ones_like(a)),
        lambda a, b: merging.lora_delta(a, b.T, 4.0),
    ],
)
def test_half_precision_is_computed_with_in_fp32(merge):
    half = deltas(6, 5, dtype=torch.bfloat16)
    found = merge(*half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, merge(*[delta.float() for delta in half]))


@pytest.mark.parametrize(
    ("merge", "what"),
    [
        (lambda a: merging.ties_merge([a, a], [1.0], 0.5), "one weight for each delta, not 1 for 2"),
        (lambda a: merging.task_arithmetic([], []), "not 0 for 0"),
        (lambda a: merging.ties_merge([a], [1.0], 0.5, "mean"), "count or weight"),
        (lambda a: merging.magnitude_trim(a, 1.5), "between 0 and 1"),
        (lambda a: merging.magnitude_trim(a, -0.1), "between 0 and 1"),
        (lambda a: merging.dare(a, 0.0, a), "above 0"),
        (lambda a: merging.dare(a, 0.5), "keep_mask or a generator"),
    ],
)
def test_what_a_merge_cannot_do_is_refused(merge, what):
    with pytest.raises(ValueError, match=what):
        merge(torch.ones(3))
