"""Cases over lists: awkward ones pass, and what our functions do not have is not here."""

import math

import pytest
import torch

from alignflow.models.cases.lists import LISTS
from alignflow.models.loss_cases import FUNCTIONS, NotHere, check_case

NAN, INF = float("nan"), float("inf")
TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]
LOGPS = [[[-1.0, NAN, -2.0], [-4.0, INF, 1e300]], [[NAN, NAN, NAN], [-1.0, -1.0, -600.0]]]
MASK = [[[1, 0, 1], [1, 0, 0]], [[0, 0, 0], [1, 1, 1]]]  # a hole, garbage where the mask is 0, an answer without tokens
REFERENCE = [[[-1.0, 7.0, -1.0], [-2.0, NAN, NAN]], [[INF, NAN, 0.0], [-1.0, -1.0, 0.0]]]
PLAIN = {"policy_logps": LOGPS, "mask": MASK, "rewards": [[1.0, 0.0], [0.0, 1.0]]}
LIPO = {"policy_logps": LOGPS, "ref_logps": REFERENCE, "mask": MASK, "labels": [[1.0, 0.0], [0.0, 1.0]]}
SWAP = 1 - 1 / math.log2(3)
"""What an exchange of the two places of a list does to the discounts."""


def softplus(value):
    return math.log1p(math.exp(value))


def test_the_functions_are_registered():
    assert all(FUNCTIONS[name] is caller for name, caller in LISTS.items())


@pytest.mark.parametrize(
    ("function", "inputs", "wanted"),
    [
        (
            "lipo_lambda_loss",
            LIPO,
            {
                "loss": SWAP * (softplus(0.05 * (-1 + 2 - 2)) + softplus(0.05 * 600)) / 2,
                "scores": [[-0.05, -0.1], [0.0, -30.0]],
                "delta": [[[0, SWAP], [0, 0]], [[0, 0], [SWAP, 0]]],
            },
        ),
        (
            "rrhf_loss",
            PLAIN,
            {"rank_loss": 602 / 3 / 2, "sft_loss": (3 + 602) / 2, "scores": [[-1.5, -4.0], [0.0, -602 / 3]]},
        ),
        (
            "pro_loss",
            PLAIN,
            {
                "rank_terms": [
                    (softplus(1.5) - softplus(1.5) + math.log(math.exp(-1.5) + math.exp(-4)) + 1.5 + 602 / 3) / 2
                ],
                "sft_loss": (3 + 602) / 2,
            },
        ),
    ],
)
def test_holes_garbage_600_nats_and_an_answer_without_tokens(function, inputs, wanted):
    assert check_case(function, {"inputs": inputs, "expected": wanted}, TOLERANCES) == ""


def test_masked_garbage_gets_no_gradient():
    case = {
        "inputs": PLAIN,
        "expected": {},
        "grad_of": "loss",
        "grads": {"policy_logps": torch.zeros(2, 2, 3).tolist()},
    }
    case["grads"]["policy_logps"] = [[[-0.5, 0, -0.5], [0, 0, 0]], [[0, 0, 0], [-0.5 - 1 / 6] * 3]]
    assert check_case("rrhf_loss", case, TOLERANCES) == ""


@pytest.mark.parametrize("function", ["list_mle_loss", "lipo_lambda_weights"])
def test_answers_that_a_mask_leaves_out_are_not_looked_at(function):
    output = {"list_mle_loss": "per_example", "lipo_lambda_weights": "value"}[function]
    wanted = {
        "list_mle_loss": [softplus(1.0), 0.0],
        "lipo_lambda_weights": [[[0, SWAP, 0], [SWAP, 0, 0], [0] * 3], [[0] * 3] * 3],
    }[function]
    inputs = {
        "scores": [[0.0, 1.0, NAN], [3.0, INF, 1e300]],
        "labels": [[1.0, 0.0, 1e300], [1.0, NAN, 5.0]],
        "mask": [[1, 1, 0], [1, 0, 0]],
    }
    assert check_case(function, {"inputs": inputs, "expected": {output: wanted}}, TOLERANCES) == ""


def test_lists_of_one_answer_and_ties():
    one = {"policy_logps": [[[-3.0]]], "mask": [[[1]]], "rewards": [[2.0]]}
    assert check_case("rrhf_loss", {"inputs": one, "expected": {"loss": 3.0, "rank_loss": 0.0}}, TOLERANCES) == ""
    assert (
        check_case(
            "pro_loss", {"inputs": one, "expected": {"loss": 0.0, "sft_loss": 3.0, "rank_terms": []}}, TOLERANCES
        )
        == ""
    )
    assert (
        check_case(
            "list_mle_loss", {"inputs": {"scores": [[4.0]], "labels": [[1.0]]}, "expected": {"loss": 0.0}}, TOLERANCES
        )
        == ""
    )
    tied = {"scores": [[1.0, 0.0]], "labels": [[0.5, 0.5]]}
    assert check_case("list_mle_loss", {"inputs": tied, "expected": {"loss": softplus(-1.0)}}, TOLERANCES) == ""
    assert (
        check_case(
            "ordinal_ranks", {"inputs": {"scores": [[0.0, 1.0, 0.0]]}, "expected": {"value": [[2, 1, 3]]}}, TOLERANCES
        )
        == ""
    )


def test_a_reward_models_ties_are_no_pair_and_a_prompt_without_pairs_has_loss_0():
    inputs = {"rewards": [[600.0, 0.0, 1.0], [2.0, 3.0, 4.0]], "ranks": [[1, 2, 2], [7, 7, 7]]}
    assert (
        check_case(
            "reward_ranking_loss",
            {"inputs": inputs, "expected": {"per_prompt": [599.5, 0.0], "loss": 299.75}},
            TOLERANCES,
        )
        == ""
    )


def test_win_rates_may_include_oneself():
    inputs, arguments = {"pref": [[[0.5, 0.9], [0.1, 0.5]]]}, {"include_self": True}
    assert (
        check_case(
            "win_rates", {"inputs": inputs, "kwargs": arguments, "expected": {"value": [[0.7, 0.3]]}}, TOLERANCES
        )
        == ""
    )


@pytest.mark.parametrize("name", ["reduction", "variant", "style"])
def test_the_form_of_rax_is_an_argument(name):
    wanted = {"per_example": [SWAP * 2 * softplus(-0.05), SWAP * 2 * softplus(30.0)]}
    assert (
        check_case("lipo_lambda_loss", {"inputs": LIPO, "kwargs": {name: "rax"}, "expected": wanted}, TOLERANCES) == ""
    )


@pytest.mark.parametrize(
    ("function", "inputs", "arguments", "what"),
    [
        ("lipo_lambda_loss", LIPO, {"discount": "log"}, "argument discount"),
        ("lipo_lambda_loss", LIPO, {"reduction": "mean"}, "reduction"),
        ("rrhf_loss", PLAIN, {"length_penalty": 0.5}, "argument length_penalty"),
        ("pro_loss", PLAIN, {"sft_weight": 0.1}, "argument sft_weight"),
        ("rrhf_loss", {**PLAIN, "ref_logps": REFERENCE}, {}, "column ref_logps"),
        ("lipo_lambda_loss", PLAIN, {}, "column ref_logps is missing"),
        ("list_mle_loss", {"scores": [[1.0]]}, {}, "column labels is missing"),
    ],
)
def test_what_a_loss_does_not_have_is_not_here(function, inputs, arguments, what):
    with pytest.raises(NotHere, match=what):
        check_case(function, {"inputs": inputs, "kwargs": arguments, "expected": {"loss": 0.0}}, TOLERANCES)
