"""Weights, gradients, optimizer: hand-worked bytes per weight, and laws over stages and processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.estimate.place import Place, add
from alignflow.data.estimate.states import LIVE_PARAMETERS, REDUCE_BUCKET, states

P = 10**9
BUCKET = 4 * REDUCE_BUCKET


def peaks(weights, trainable, place, head=0):
    """Bytes (backward, step) without the bucket."""
    found = states(weights, trainable, head, place)
    return [sum(add(found.resident, part).values()) for part in (found.backward, found.step)]


def test_plain_torch_holds_weights_gradients_and_two_moments():
    assert peaks(P, P, Place("cpu", engine="torch")) == [16 * P, 16 * P]
    assert peaks(P, P, Place("cuda", engine="torch")) == [16 * P, 16 * P]


@pytest.mark.parametrize(
    ("stage", "processes", "backward", "step"),
    [
        (1, 1, 4 + 12 + 4, 4 + 12 + 4 + 4),  # weights, master copy and moments, gradients; a flat copy
        (1, 8, 4 + 1.5 + 4, 4 + 1.5 + 4 + 0.5 + 0.5),
        (2, 8, 4 + 1.5 + 0.5 + 0.5 + 2, 4 + 1.5 + 0.5 + 1),  # half of the gradients fill the bucket
    ],
)
def test_zero_1_and_2_by_hand(stage, processes, backward, step):
    place = Place("cuda", zero_stage=stage, processes=processes)
    assert peaks(P, P, place) == [pytest.approx(backward * P + BUCKET), pytest.approx(step * P)]


def test_zero_3_by_hand():
    # Weights, moments, gradients and one buffer of a share; the bucket; gathered weights; gradients on their way, twice.
    place = Place("cuda", zero_stage=3, processes=8)
    assert peaks(P, P, place)[0] == pytest.approx((0.5 + 1 + 0.5 + 0.5) * P + BUCKET + 4 * LIVE_PARAMETERS + 2 * BUCKET)


def test_offloading_moves_the_optimizer_into_the_machines_memory():
    on, off = (
        states(P, P, 0, Place("cuda", zero_stage=2, processes=4, offload=value)) for value in ("none", "optimizer")
    )
    assert "optimizer" not in off.resident and on.resident["optimizer"] == off.host["optimizer"] == 3 * P
    everything = states(P, P, 0, Place("cuda", zero_stage=3, processes=4, offload="all"))
    assert "weights" not in everything.resident and everything.host["weights"] == P


def test_on_a_cpu_there_is_nothing_to_offload():
    assert states(P, P, 0, Place("cpu", offload="optimizer")) == states(P, P, 0, Place("cpu"))


places = st.builds(
    Place,
    device=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(["fp32", "bf16"]),
    zero_stage=st.sampled_from([1, 2, 3]),
    processes=st.integers(1, 64),
)


@given(place=places, weights=st.integers(10**6, 10**11), share=st.floats(0.001, 1))
def test_learning_less_never_needs_more(place, weights, share):
    fewer, all_of_them = peaks(weights, int(weights * share), place), peaks(weights, weights, place)
    assert all(one <= other * (1 + 1e-9) for one, other in zip(fewer, all_of_them, strict=True))


@given(place=places, weights=st.integers(10**6, 10**11))
def test_more_processes_never_hold_more_each(place, weights):
    twice = Place(place.device, place.precision, zero_stage=place.zero_stage, processes=2 * place.processes)
    for one, other in zip(peaks(weights, weights, twice), peaks(weights, weights, place), strict=True):
        assert one <= other * (1 + 1e-9) or place.processes == 1  # with one process ZeRO 1 need not copy its own share


@given(weights=st.integers(10**10, 10**11), processes=st.integers(4, 64))
def test_each_zero_stage_holds_less_than_the_one_before_of_a_large_model(weights, processes):
    totals = [max(peaks(weights, weights, Place("cuda", zero_stage=stage, processes=processes))) for stage in (1, 2, 3)]
    assert totals[0] > totals[1] > totals[2]
