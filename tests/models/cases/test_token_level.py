"""Cases of distributions and tokens: values worked out by hand, and rows of the kinds that are held back."""

import math

import pytest
import torch

from alignflow.models.cases.base import NotHere
from alignflow.models.cases.token_level import TOKEN_LEVEL
from alignflow.models.loss_cases import FUNCTIONS, check_case

TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]
NAN, INF = float("nan"), float("inf")
HALF, SURE = [0.0, 0.0], [0.0, -INF]
P = 1 - 1e-7
"""A probability within 1e-7 of 1."""


def check(function, inputs, expected, arguments=None, **more):
    return check_case(function, {"inputs": inputs, "kwargs": arguments or {}, "expected": expected, **more}, TOLERANCES)


def test_all_of_them_are_registered():
    assert set(TOKEN_LEVEL) <= set(FUNCTIONS)


NEARLY_SURE = [math.log(P), math.log(1e-7)]
KL_OF_NEARLY_SURE = P * math.log(2 * P) + 1e-7 * math.log(2e-7)
KL_TO_NEARLY_SURE = 0.5 * math.log(0.5 / P) + 0.5 * math.log(0.5e7)


@pytest.mark.parametrize(
    ("reference", "policy", "wanted"),
    [
        ([SURE], [HALF], math.log(2)),
        ([NEARLY_SURE], [HALF], KL_OF_NEARLY_SURE),
        ([HALF], [NEARLY_SURE], KL_TO_NEARLY_SURE),
        ([HALF], [[0.0, -600.0]], 300 - math.log(2)),
        ([[600.0, 0.0]], [[0.0, 600.0]], 600.0),
        ([SURE], [SURE], 0.0),
    ],
    ids=["ruled_out", "near_1", "to_near_1", "600_nats", "opposite", "both_ruled_out"],
)
def test_a_sequential_kl_at_the_limits(reference, policy, wanted):
    garbage = [[NAN, INF], [1e300, -INF]]
    inputs = {"ref_logdist": [[*reference, *garbage]], "policy_logdist": [[*policy, *garbage]], "mask": [[1, 0, 0]]}
    gradient = torch.tensor(policy).double().softmax(-1) - torch.tensor(reference).double().softmax(-1)
    grads = {"policy_logdist": [[*gradient.tolist(), [0.0, 0.0], [0.0, 0.0]]]}
    assert check("sequential_kl", inputs, {"value": [wanted]}, grad_of="value", grads=grads) == ""
    inputs = {"p_logdist": inputs["ref_logdist"], "q_logdist": inputs["policy_logdist"], "mask": [[1, 0, 0]]}
    assert check("full_kl", inputs, {"per_token": [[wanted, 0.0, 0.0]], "sequence": [wanted]}) == ""


def test_rows_without_tokens_are_0():
    inputs = {"ref_logdist": [[[NAN, 1.0]]], "policy_logdist": [[[INF, 1.0]]], "mask": [[0]]}
    assert check("sequential_kl", inputs, {"value": [0.0]}) == ""
    rewards = {"token_rewards": [[0.0]], "prefix_rewards": [[0.0]], "sequence_reward": [0.0]}
    assert check("dpo_token_rewards", {"policy_logps": [[NAN]], "ref_logps": [[1.0]], "mask": [[0]]}, rewards) == ""


def test_running_sums_stay_what_they_were_in_the_holes_of_a_mask():
    inputs = {
        "policy_logps": [[NAN, -1.0, INF, -2.0, 1e300]],
        "ref_logps": [[1.0, -3.0, NAN, -1.0, 0.0]],
        "mask": [[0, 1, 0, 1, 0]],
    }
    wanted = {
        "token_rewards": [[0.0, 1.0, 0.0, -0.5, 0.0]],
        "prefix_rewards": [[0.0, 1.0, 1.0, 0.5, 0.5]],
        "sequence_reward": [0.5],
    }
    assert check("dpo_token_rewards", inputs, wanted, {"beta": 0.5}) == ""


TDPO = {  # one token each: logps ln 1/2 under a reference that is sure of it, and ln 1/2 under one that is not
    "policy_chosen_logdist": [[HALF, [NAN, INF]]],
    "ref_chosen_logdist": [[SURE, [INF, NAN]]],
    "chosen_tokens": [[0, 1]],
    "chosen_mask": [[1, 0]],
    "policy_rejected_logdist": [[[NAN, NAN], NEARLY_SURE]],
    "ref_rejected_logdist": [[[NAN, NAN], HALF]],
    "rejected_tokens": [[7, 1]],
    "rejected_mask": [[0, 1]],
}
RHO_W, KL_W, RHO_L, KL_L = -math.log(2), math.log(2), math.log(2e-7), KL_TO_NEARLY_SURE


@pytest.mark.parametrize(
    ("arguments", "z"),
    [
        ({"variant": 1, "alpha": 0.5}, RHO_W - RHO_L - (KL_L - KL_W)),
        ({"variant": 2, "alpha": 0.25}, RHO_W - RHO_L - 0.25 * (KL_L - KL_W)),
        ({"if_tdpo2": False}, RHO_W - RHO_L - (KL_L - KL_W)),
        ({}, RHO_W - RHO_L - 0.5 * (KL_L - KL_W)),
    ],
)
def test_both_forms_of_tdpo(arguments, z):
    wanted = {
        "loss": math.log1p(math.exp(-0.1 * z)),
        "chosen_seq_kl": [KL_W],
        "rejected_seq_kl": [KL_L],
        "chosen_rewards": [0.1 * (RHO_W + KL_W)],
        "rejected_rewards": [0.1 * (RHO_L + KL_L)],
    }
    assert check("tdpo_loss", TDPO, wanted, {"beta": 0.1, **arguments}) == ""


def test_the_jensen_shannon_divergence_of_a_distillation():
    inputs = {"student_logits": [[HALF, [NAN, 0.0]]], "teacher_logits": [[SURE, [0.0, INF]]], "mask": [[1, 0]]}
    wanted = 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert check("gkd_loss", inputs, {"loss": wanted}, {"beta": 0.5, "temperature": 1.0}) == ""
    assert check("gkd_loss", inputs, {"loss": math.log(2)}, {"beta": 0, "temperature": 2.0}) == ""


PAIR = {
    "policy_chosen": [[-1.0, -2.0]],
    "policy_rejected": [[-3.0, 1e300]],
    "ref_chosen": [[-2.0, -2.0]],
    "ref_rejected": [[-1.0, NAN]],
    "chosen_mask": [[1, 1]],
    "rejected_mask": [[1, 0]],
}


def test_ld_dpo_and_beta_dpo_have_the_values_worked_out_by_hand():
    """rho(w) = 1 + 0 of two tokens, rho(l) = -2 of one."""
    tail = {**PAIR, "policy_chosen": [[-1.0, 0.0]]}  # the second token of the chosen answer gains 2
    assert (
        check("ld_dpo_loss", tail, {"loss": math.log1p(math.exp(-(1 + 0.25 * 2 + 2)))}, {"beta": 1.0, "ld_alpha": 0.25})
        == ""
    )
    beta = 0.1 * (1 + 0.5 * (3 - 1))
    expected = {"beta": beta, "gap": [3.0], "loss": math.log1p(math.exp(-beta * 3)), "chosen_rewards": [0.1]}
    gradient = -beta / (1 + math.exp(beta * 3))
    more = {"grad_of": "loss", "grads": {"policy_chosen": [[gradient, gradient]]}}
    assert check("beta_dpo_loss", PAIR, expected, {"beta0": 0.1, "alpha": 0.5, "m0": 1.0}, **more) == ""
    assert check("beta_dpo_loss", PAIR, {"beta": 1e-3}, {"beta0": 0.1, "alpha": 0.5, "m0": 100.0}) == ""
    assert check("beta_dpo_loss", PAIR, {"gap": [0.3]}, {"scale_gap_by_beta": True}) == ""
    assert check("beta_dpo_loss", PAIR, {"loss": math.log1p(math.exp(-3 * 0.7))}, {"frozen_beta": 0.7}) == ""


def test_small_functions():
    assert (
        check(
            "beta_dpo_filter_weights",
            {"gaps": [1.0, 600.0]},
            {"value": [math.exp(-0.5), 0.0]},
            {"m0": 2.0, "sigma": 1.0},
        )
        == ""
    )
    assert check("ema_update", {"prev": [1.0], "new": [2.0]}, {"value": [1.5]}, {"momentum": 0.5}) == ""
    assert (
        check("entropy_from_logits", {"logits": [[HALF, SURE, [600.0, 0.0]]]}, {"value": [[math.log(2), 0.0, 0.0]]})
        == ""
    )
    assert check("logsumexp", {"x": [HALF, [1e4, 0.0]]}, {"value": [math.log(2), 1e4]}) == ""
    tokens = {
        "logits": [[HALF, SURE, [NAN, NAN]]],
        "tokens": [[7, 1, 0]],
    }  # the first token's id is not looked at, nor the last logits
    assert check("gather_token_logps", tokens, {"value": [[-math.log(2), 0.0]]}) == ""


@pytest.mark.parametrize(
    ("function", "inputs", "arguments", "what"),
    [
        ("tdpo_loss", TDPO, {"beta": 0.1, "gamma": 1.0}, "argument gamma"),
        ("tdpo_loss", PAIR, {}, "column"),
        ("ld_dpo_loss", PAIR, {"ld_alpha": 2.0}, "ld_alpha"),
        ("gkd_loss", {"mask": [[1]]}, {"lmbda": 0.5}, "lmbda"),
        ("beta_dpo_loss", {**PAIR, "margins": [1.0]}, {}, "column margins"),
    ],
)
def test_what_a_function_does_not_have_is_not_here(function, inputs, arguments, what):
    with pytest.raises(NotHere, match=what):
        check(function, inputs, {"loss": 0.0}, arguments)
