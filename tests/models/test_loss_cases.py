"""Fixed cases pass through the functions that training calls; a wrong number is a miss, and what is not here is never a pass."""

import json
import math

import pytest

from alignflow.data import catalogue
from alignflow.models.cases.lists import LISTS
from alignflow.models.cases.merges import MERGES
from alignflow.models.cases.online_preference import ONLINE_PREFERENCE
from alignflow.models.cases.pairs import PAIRS, PairCase
from alignflow.models.cases.unpaired import UNPAIRED
from alignflow.models.loss_cases import FUNCTIONS, NotHere, check_case, check_file

PPO = (
    "adaptive_kl_coef",
    "discounted_returns",
    "gae",
    "kl_estimators",
    "kl_penalised_rewards",
    "masked_whiten",
    "ppo_policy_loss",
    "ppo_total_loss",
    "ppo_value_loss",
)
POLICY_GRADIENTS = (
    "grpo_advantages",
    "grpo_loss",
    "reinforce_pp_advantages",
    "reinforce_pp_baseline_advantages",
    "rloo_advantages",
    "rloo_loss",
)
OTHERS = ("sft_loss", "reward_bt_loss", "dpo_loss", "judge_soft_label", "seq_logp")
TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]


@pytest.fixture(scope="module")
def shipped(request):
    return request.config.rootpath / "tests" / "data" / "loss_cases.json"


def test_the_shipped_cases_pass_and_two_are_not_here(shipped):
    verdicts = {verdict.name: verdict for verdict in check_file(shipped)}
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "miss"] == []
    assert {name: verdict.text for name, verdict in verdicts.items() if verdict.outcome == "not here"} == {
        "no_such_loss/not_here": "function no_such_loss",
        "gae/unknown_argument": "argument td_steps",
    }


@pytest.mark.parametrize("function", [*PPO, *POLICY_GRADIENTS, *OTHERS])
def test_every_function_of_policy_gradients_and_of_the_other_stages_has_a_shipped_case(function, shipped):
    cases = json.loads(shipped.read_text())["cases"]
    assert any(case["function"] == function for case in cases) and function in FUNCTIONS


def test_the_reference_cases_pass(repository):
    path = repository.parent / "shared" / "reference" / "loss_cases.json"
    if not path.is_file():
        pytest.skip("the reference cases are not part of the repository")
    verdicts = list(check_file(path))
    assert [f"{verdict.name}: {verdict.text}" for verdict in verdicts if verdict.outcome == "miss"] == []
    passed = {verdict.name.split("/")[0] for verdict in verdicts if verdict.outcome == "pass"}
    assert passed >= {*LISTS, *MERGES, *ONLINE_PREFERENCE, *OTHERS, *PAIRS, *POLICY_GRADIENTS, *PPO, *UNPAIRED}


GAE = {
    "inputs": {"rewards": [[1.0]], "values": [[0.5]], "mask": [[1]]},
    "kwargs": {"gamma": 1.0, "lam": 1.0},
    "expected": {"advantages": [[0.5]]},
}


def test_a_wrong_number_a_wrong_shape_and_a_wrong_gradient_are_misses():
    assert check_case("gae", GAE, TOLERANCES) == ""
    assert "advantages is 0.5, wanted 0.6" in check_case(
        "gae", {**GAE, "expected": {"advantages": [[0.6]]}}, TOLERANCES
    )
    assert "shape" in check_case("gae", {**GAE, "expected": {"advantages": [0.5]}}, TOLERANCES)
    loss = {
        "inputs": {"logps": [[-1.0]], "mask": [[1]]},
        "kwargs": {},
        "expected": {"loss": 1.0},
        "grad_of": "loss",
        "grads": {"logps": [[-0.9]]},
    }
    assert "gradient of logps" in check_case("sft_loss", loss, TOLERANCES)
    assert check_case("sft_loss", {**loss, "grads": {"logps": [[-1.0]]}}, TOLERANCES) == ""


PAIR = {
    "policy_chosen": [[-1.0, -2.0]],
    "policy_rejected": [[-3.0, 9.0]],
    "ref_chosen": [[-2.0, -2.0]],
    "ref_rejected": [[-1.0, 7.0]],
    "chosen_mask": [[1, 1]],
    "rejected_mask": [[1, 0]],
}
ALONE = {name: values for name, values in PAIR.items() if not name.startswith("ref_")}
LOSSES = {  # rho(w) = 1, rho(l) = -2; lp(w) = -3, lp(l) = -3; |w| = 2, |l| = 1
    "dpo_loss": ({"beta": 1.0}, math.log1p(math.exp(-3))),
    "robust_dpo_loss": ({"beta": 1.0, "flip_prob": 0.0}, math.log1p(math.exp(-3))),
    "ipo_loss": ({"tau": 0.5}, (0.5 + 2 - 1) ** 2),
    "hinge_dpo_loss": ({"beta": 0.1}, 0.7),
    "gpo_loss": ({"beta": 1.0, "kind": "savage"}, (1 / (1 + math.e**3)) ** 2),
    "f_dpo_loss": ({"beta": 1.0, "divergence": "forward_kl"}, math.log1p(math.exp(math.exp(-1) - math.exp(2)))),
    "apo_loss": ({"beta": 1.0, "kind": "down"}, 1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(-3))),
    "nca_pair_loss": ({"beta": 1.0}, math.log1p(math.exp(-1)) + math.log1p(math.e) / 2 + math.log1p(math.exp(-2)) / 2),
    "dpop_loss": ({"beta": 1.0, "lam": 5.0}, math.log1p(math.exp(-3))),
    "rdpo_loss": ({"beta": 1.0, "alpha": 0.5}, math.log1p(math.exp(-3.5))),
    "dpo_length_normalised_loss": ({"beta": 1.0}, math.log1p(math.exp(-2.5))),
    "simpo_loss": ({"beta": 2.0, "gamma": 0.5}, math.log1p(math.exp(-2.5))),
    "cpo_loss": ({"beta": 1.0}, math.log(2) + 1.5),
    "orpo_loss": (
        {"lam": 1.0},
        1.5 + math.log1p(math.exp(-(-1.5 - math.log(1 - math.exp(-1.5)) + 3 + math.log(1 - math.exp(-3))))),
    ),
    "exo_pref_loss": (
        {"beta": 1.0, "epsilon": 0.5 - 1e-12},
        sum(p * math.log(2 * p) for p in (1 / (1 + math.exp(-3)), 1 / (1 + math.e**3))),
    ),
}


@pytest.mark.parametrize("function", LOSSES)
def test_pairwise_losses_have_the_values_worked_out_by_hand(function):
    arguments, wanted = LOSSES[function]
    inputs = PAIR if catalogue.METHODS[PAIRS[function].method.format(kind="zero")].needs_reference else ALONE
    case = {
        "inputs": inputs,
        "kwargs": arguments,
        "expected": {"loss": wanted, "accuracy": 1.0 if function not in ("cpo_loss",) else 0.0},
    }
    assert check_case(function, case, TOLERANCES) == ""


@pytest.mark.parametrize(
    ("function", "changed", "what"),
    [
        ("dpo_loss", {"ref_chosen": None}, "column ref_chosen is missing"),
        ("dpo_loss", {"chosen_mask": None}, "column chosen_mask is missing"),
        ("wpo_loss", {}, "column chosen_weights is missing"),
        ("simpo_loss", {}, "column ref_chosen, ref_rejected"),
        ("dpo_loss", {"margins": [1.0]}, "column margins"),
        ("ipo_loss", {"soft_labels": [0.7]}, "column soft_labels"),
        (
            "slic_hf_loss",
            {"ref_chosen": None, "ref_rejected": None, "target_logps": [[-1.0]]},
            "column target_mask is missing",
        ),
    ],
)
def test_a_column_that_is_missing_or_that_a_method_does_not_read_is_not_here(function, changed, what):
    inputs = {name: value for name, value in {**PAIR, **changed}.items() if value is not None}
    with pytest.raises(NotHere, match=what):
        check_case(function, {"inputs": inputs, "kwargs": {}, "expected": {"loss": 0.0}}, TOLERANCES)


def test_soft_labels_of_a_case_are_used_where_the_method_has_them():
    wanted = 0.7 * math.log1p(math.exp(-3)) + 0.3 * math.log1p(math.exp(3))
    case = {"inputs": {**PAIR, "soft_labels": [0.7]}, "kwargs": {"beta": 1.0}, "expected": {"loss": wanted}}
    assert check_case("dpo_loss", case, TOLERANCES) == ""


def test_without_a_target_slic_hf_takes_the_chosen_answer():
    case = {"inputs": ALONE, "kwargs": {"delta": 1.0, "reg_coef": 0.1}, "expected": {"loss": 1.0 + 0.1 * 3}}
    assert check_case("slic_hf_loss", case, TOLERANCES) == ""


def test_one_odd_case_does_not_stop_those_that_follow(tmp_path):
    good = {"function": "gae", **GAE}
    odd = [
        {"name": "a", "function": "dpo_loss", "inputs": {"policy_chosen": [[-1.0]]}, "expected": {"loss": 1.0}},
        {"name": "b", "function": "gae", **GAE, "grads": {"rewards": [[1.0]]}},
        {"name": "c", "function": "gae", "inputs": {"rewards": [[1.0], [1.0, 2.0]]}, "expected": {}},
        {"name": "d", "function": "gae", "expected": {}},
    ]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": [*odd, {"name": "last", **good}]}))
    verdicts = {verdict.name: verdict for verdict in check_file(path)}
    assert [verdict.outcome for verdict in verdicts.values()] == ["not here", "miss", "miss", "miss", "pass"]
    assert "set grad_of" in verdicts["b"].text and "ValueError" in verdicts["c"].text and "inputs" in verdicts["d"].text


def test_every_pairwise_case_names_a_method_and_options_that_exist():
    for row in PAIRS.values():
        if isinstance(row, PairCase):
            kinds = catalogue.METHODS[row.method.format(kind="zero")].options.model_fields
            assert set(row.arguments.values()) <= set(kinds)


@pytest.mark.parametrize(
    ("function", "arguments", "what"),
    [
        ("dpo_loss", {"gap": 1}, "argument gap"),
        ("gpo_loss", {"kind": "cubic"}, "form"),
        ("apo_loss", {"kind": "up"}, "method apo_up"),
    ],
)
def test_an_argument_that_a_loss_does_not_have_is_not_here(function, arguments, what):
    with pytest.raises(NotHere, match=what):
        check_case(function, {"inputs": PAIR, "kwargs": arguments, "expected": {"loss": 0.0}}, TOLERANCES)
