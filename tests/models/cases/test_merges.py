"""Cases of merges: what a merge refuses, and what ours does not have, is not here."""

import pytest

from alignflow.models.cases.merges import MERGES
from alignflow.models.loss_cases import FUNCTIONS, NotHere, check_case

TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]
TWO = {"deltas": [[1.0, -4.0, 2.0, 2.0], [3.0, 1.0, -2.0, 2.0]]}


def test_the_functions_are_registered():
    assert all(FUNCTIONS[name] is caller for name, caller in MERGES.items())


@pytest.mark.parametrize(
    ("function", "inputs", "arguments", "wanted"),
    [
        ("magnitude_trim", {"delta": [2.0, -2.0, 2.0, 1.0]}, {"density": 0.5}, [2.0, -2.0, 0.0, 0.0]),
        ("magnitude_trim", {"delta": [2.0, -2.0, 2.0]}, {"density": 0.3}, [0.0, 0.0, 0.0]),
        (
            "ties_merge",
            TWO,
            {"density": 0.5},
            [3.0, -4.0, 2.0, 0.0],
        ),  # of two equal magnitudes the first stays; a tied vote is +
        ("task_arithmetic", {**TWO, "weights": [1.0, 0.5]}, {}, [2.5, -3.5, 1.0, 3.0]),
        ("sparsity", {"delta": [[0.0, 0.01], [1.0, 2.0]]}, {"tol": 0.1}, 0.5),
        ("slerp", {"a": [1.0, 0.0], "b": [2.0, 0.0]}, {"t": 0.25}, [1.25, 0.0]),
        ("l1_penalty", {"delta": [-1.0, 2.0]}, {"lam": 0.1}, 0.3),
        ("soft_threshold", {"delta": [-1.0, 0.4]}, {"threshold": 0.4}, [-0.6, 0.0]),
    ],
)
def test_values_worked_out_by_hand(function, inputs, arguments, wanted):
    assert (
        check_case(function, {"inputs": inputs, "kwargs": arguments, "expected": {"value": wanted}}, TOLERANCES) == ""
    )


def test_the_gradient_of_the_l1_penalty_is_the_sign():
    case = {
        "inputs": {"delta": [-1.0, 0.0, 3.0]},
        "kwargs": {"lam": 0.5},
        "expected": {},
        "grad_of": "value",
        "grads": {"delta": [-0.5, 0.0, 0.5]},
    }
    assert check_case("l1_penalty", case, TOLERANCES) == ""


@pytest.mark.parametrize(
    ("function", "inputs", "arguments", "what"),
    [
        ("ties_merge", TWO, {"density": 0.5, "divisor": "mean"}, "count or weight"),
        ("ties_merge", TWO, {}, "argument density is missing"),
        ("ties_merge", TWO, {"density": 0.5, "scale": 2.0}, "argument scale"),
        ("dare", {"delta": [1.0], "keep_mask": [1]}, {"density": 0.0}, "above 0"),
        ("dare", {"delta": [1.0]}, {"density": 0.5}, "column keep_mask is missing"),
        ("magnitude_trim", {"delta": [1.0]}, {"density": 2.0}, "between"),
    ],
)
def test_what_a_merge_does_not_have_is_not_here(function, inputs, arguments, what):
    with pytest.raises(NotHere, match=what):
        check_case(function, {"inputs": inputs, "kwargs": arguments, "expected": {"value": 0.0}}, TOLERANCES)
