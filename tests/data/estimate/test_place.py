"""Where a stage computes, and sums of what it needs there."""

import pytest

from alignflow.data.estimate.place import Need, Phase, Place, add


@pytest.mark.parametrize(
    ("place", "gathers", "shares"),
    [
        (Place(engine="deepspeed", zero_stage=3, processes=4), True, 4),
        (Place(engine="deepspeed", zero_stage=2, processes=4), False, 1),
        (Place(engine="torch", zero_stage=3), False, 1),
    ],
)
def test_weights_are_cut_under_zero_3_alone(place, gathers, shares):
    assert (place.gathers, place.shares) == (gathers, shares)


def test_processes_of_a_node_are_rounded_up():
    assert Place(processes=5, nodes=2).processes_per_node == 3


def test_the_peak_is_the_phase_that_needs_most_and_what_is_nothing_is_left_out():
    need = Need((Phase("a", {"weights": 1.0, "logits": 1.0}), Phase("b", {"weights": 3.0})), {"cache": 2.0})
    assert need.peak.name == "b" and need.peak.total == 3.0 and need.host_total == 2.0
    assert add({"a": 1, "b": 2}, {"a": -1, "c": 0}, {"b": 1}) == {"b": 3}
