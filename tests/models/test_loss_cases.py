"""Fixed cases pass through the functions that training calls; a wrong number is a miss, and what is not here is never a pass."""

import json

import pytest

from alignflow.models.loss_cases import FUNCTIONS, check_case, check_file

PPO = (
    "adaptive_kl_coef", "discounted_returns", "gae", "kl_estimators", "kl_penalised_rewards", "masked_whiten", "ppo_policy_loss",
    "ppo_total_loss", "ppo_value_loss",
)  # fmt: skip
OTHERS = ("sft_loss", "reward_bt_loss", "dpo_loss", "judge_soft_label", "seq_logp")
TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]


@pytest.fixture(scope="module")
def shipped(request):
    return request.config.rootpath / "tests" / "data" / "loss_cases.json"


def test_the_shipped_cases_pass_and_two_are_not_here(shipped):
    verdicts = {verdict.name: verdict for verdict in check_file(shipped)}
    assert [name for name, verdict in verdicts.items() if verdict.outcome == "miss"] == []
    assert {name: verdict.text for name, verdict in verdicts.items() if verdict.outcome == "not here"} == {
        "kto_loss/not_here": "function kto_loss", "gae/unknown_argument": "argument bootstrap",
    }  # fmt: skip


@pytest.mark.parametrize("function", [*PPO, *OTHERS])
def test_every_function_of_ppo_and_of_the_other_stages_has_a_shipped_case(function, shipped):
    cases = json.loads(shipped.read_text())["cases"]
    assert any(case["function"] == function for case in cases) and function in FUNCTIONS


def test_the_reference_cases_pass(repository):
    path = repository.parent / "shared" / "reference" / "loss_cases.json"
    if not path.is_file():
        pytest.skip("the reference cases are not part of the repository")
    verdicts = list(check_file(path))
    assert [f"{verdict.name}: {verdict.text}" for verdict in verdicts if verdict.outcome == "miss"] == []
    passed = {verdict.name.split("/")[0] for verdict in verdicts if verdict.outcome == "pass"}
    assert passed >= {*PPO, *OTHERS}


GAE = {
    "inputs": {"rewards": [[1.0]], "values": [[0.5]], "mask": [[1]]}, "kwargs": {"gamma": 1.0, "lam": 1.0}, "expected": {"advantages": [[0.5]]},
}  # fmt: skip


def test_a_wrong_number_a_wrong_shape_and_a_wrong_gradient_are_misses():
    assert check_case("gae", GAE, TOLERANCES) == ""
    assert "advantages is 0.5, wanted 0.6" in check_case("gae", {**GAE, "expected": {"advantages": [[0.6]]}}, TOLERANCES)
    assert "shape" in check_case("gae", {**GAE, "expected": {"advantages": [0.5]}}, TOLERANCES)
    loss = {
        "inputs": {"logps": [[-1.0]], "mask": [[1]]}, "kwargs": {}, "expected": {"loss": 1.0}, "grad_of": "loss", "grads": {"logps": [[-0.9]]},
    }  # fmt: skip
    assert "gradient of logps" in check_case("sft_loss", loss, TOLERANCES)
    assert check_case("sft_loss", {**loss, "grads": {"logps": [[-1.0]]}}, TOLERANCES) == ""
