"""Fixed cases of single answers and negatives: wild numbers where masks are 0, steps of one class, empty rows, weights that learn or do not."""

import math

import pytest

from alignflow.models.cases.unpaired import UNPAIRED
from alignflow.models.loss_cases import NotHere, check_case

NAN, INF = float("nan"), float("inf")
TOLERANCES = [1e-10, 1e-10, 1e-6, 1e-8]
WILD = [NAN, INF, -INF, 1e300]
LN2 = math.log(2)


def s(z):
    return 1 / (1 + math.exp(-z))


def check(function, inputs, expected, kwargs=None, grads=None, **more):
    case = {"inputs": inputs, "kwargs": kwargs or {}, "expected": expected, **more}
    if grads:
        case |= {"grads": grads, "grad_of": more.get("grad_of", "loss")}
    return check_case(function, case, TOLERANCES)


def answers(wild, **more):
    """rho 3 (with a hole in its mask), 0 (no token) and -600."""
    return {
        "policy_logps": [[-1.0, wild, -1.0], [wild, wild, wild], [-700.0, wild, wild]],
        "ref_logps": [[-2.0, wild, -3.0], [wild, wild, wild], [-100.0, wild, wild]],
        "mask": [[1, 0, 1], [0, 0, 0], [1, 0, 0]],
        **more,
    }


@pytest.mark.parametrize("wild", WILD)
def test_kto_takes_z0_from_the_mismatched_pairs_and_its_gradient_is_0_where_masks_are(wild):
    inputs = answers(
        wild,
        labels=[1, 0, 0],
        kl_policy_logps=[[-1.0, wild], [wild, wild]],
        kl_ref_logps=[[-3.0, wild], [wild, wild]],
        kl_mask=[[1, 0], [0, 0]],
    )
    each = [2 * s(0.1 * (1 - 3)), s(-0.1), s(0.1 * (-600 - 1))]
    slope = -2 * 0.1 * s(0.2) * s(-0.2) / 3
    expected = {"loss": sum(each) / 3, "per_example": each, "kl": 1.0, "rewards": [0.3, 0.0, -60.0]}
    grads = {"policy_logps": [[slope, 0.0, slope], [0.0] * 3, [0.1 * each[2] / 3, 0.0, 0.0]]}
    assert check("kto_loss", inputs, expected, {"beta": 0.1, "desirable_weight": 2.0}, grads) == ""


@pytest.mark.parametrize("label", [0, 1])
def test_a_step_of_one_class_is_legal(label):
    inputs, sign = answers(NAN, labels=[label] * 3), 2 * label - 1
    each = [math.log1p(math.exp(-sign * (reward - 0.5))) for reward in (0.3, 0.0, -60.0)]
    assert (
        check(
            "bco_loss",
            inputs,
            {"loss": sum(each) / 3, "per_example": each, "rewards": [0.3, 0.0, -60.0]},
            {"beta": 0.1, "delta": 0.5},
        )
        == ""
    )
    each = [s(-sign * (reward - 0.2)) for reward in (0.3, 0.0, -60.0)]
    assert check("kto_loss", inputs, {"loss": sum(each) / 3}, {"kl": 2.0, "beta": 0.1}) == ""


@pytest.mark.parametrize(
    ("kwargs", "labels", "wanted"),
    [({}, [1, 1, 0], 3.0), ({"kind": "pooled"}, [1, 1, 0], 7 / 3), ({}, [1, 1, 1], 7 / 3), ({}, [0, 0, 0], 7 / 3)],
)
def test_delta_is_between_the_classes_or_pooled(kwargs, labels, wanted):
    assert check("bco_delta", {"rewards": [0.0, 2.0, 5.0], "labels": labels}, {"value": wanted}, kwargs) == ""


def test_dro_v_with_another_tau_has_the_true_gradient_for_its_loss_and_the_algorithms_for_its_parts():
    inputs = answers(NAN, rewards=[1.0, 2.0, -1.0], values=[0.5, 1.0, 2.0])
    residual = [0.5 - 2 * 3, 1.0, -3.0 + 1200.0]
    half = sum(each**2 for each in residual) / 6
    policy = (2.0 * 0.5 + 9.0 + 0.0 + 700.0 * -3.0 + 360000.0) / 3
    expected = {
        "loss": half,
        "value_loss": half,
        "policy_loss": policy,
        "residual": residual,
        "grad_value": [-each / 3 for each in residual],
    }

    def places(first, third):
        return [[first, 0.0, first], [0.0] * 3, [third, 0.0, 0.0]]

    of_values = [-each / 3 for each in residual]
    true = {"policy_logps": places(-2 * residual[0] / 3, -2 * residual[2] / 3), "values": of_values}
    assert check("dro_v_loss", inputs, expected, {"tau": 2.0}, true) == ""
    parts = {"policy_logps": places(-residual[0] / 3, -residual[2] / 3), "values": [0.0] * 3}
    assert check("dro_v_loss", inputs, expected, {"tau": 2.0}, parts, grad_of="policy_loss") == ""
    values = {"policy_logps": places(0.0, 0.0), "values": of_values}
    assert check("dro_v_loss", inputs, expected, {"tau": 2.0}, values, grad_of="value_loss") == ""


def negatives(prefix, wild):
    """Two answers: of its two tokens the first has one that counts, with log-odds 1 against its pick; the second has none."""
    return {
        f"{prefix}_logits": [[[1.0, 0.0, -600.0], [wild] * 3], [[wild] * 3, [wild] * 3]],
        f"{prefix}_tokens": [[0, wild], [7, -3]],
        f"{prefix}_mask": [[1, 0], [0, 0]],
        "picks": [[1, wild], [99, wild]],
    }


@pytest.mark.parametrize("wild", WILD)
def test_cringe_has_a_mean_for_each_class_and_nothing_of_masked_logits(wild):
    inputs = {
        "pos_logps": [[-1.0, wild], [-2.0, -3.0], [wild, wild]],
        "pos_mask": [[1, 0], [1, 1], [0, 0]],
        **negatives("neg", wild),
    }
    term = math.log1p(math.e)
    slope = 0.25 * s(1) / 2
    grads = {
        "pos_logps": [[-1 / 3, 0.0], [-1 / 3, -1 / 3], [0.0, 0.0]],
        "neg_logits": [[[slope, -slope, 0.0], [0.0] * 3], [[0.0] * 3] * 2],
    }
    expected = {"loss": 2.0 + 0.25 * term / 2, "ce": 2.0, "cringe": term / 2}
    assert check("cringe_loss", inputs, expected, {"alpha": 0.25, "reduction": "sum"}, grads) == ""


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("frozen", [True, False])
def test_the_gate_of_pairwise_cringe_learns_unless_the_case_holds_its_margin_fixed(wild, frozen):
    inputs = {
        "chosen_logps": [[-2.0, wild], [wild, wild]],
        "chosen_mask": [[1, 0], [0, 0]],
        **negatives("rejected", wild),
    }
    normaliser = math.log(math.e + 1 + math.exp(-600))
    margin = -2.0 - (1 - normaliser)
    gate, body = s((1.0 - margin) / 2.0), 2.0 + 0.5 * math.log1p(math.e)
    chosen = -gate - (0.0 if frozen else gate * (1 - gate) / 2.0 * body)
    expected = {
        "loss": gate * body / 2,
        "gate": [gate, s(0.5)],
        "margin": [margin, 0.0],
        "per_example": [gate * body, 0.0],
    }
    more = {"frozen": {"frozen_margin": [margin, 0.0]}} if frozen else {}
    grads = {"chosen_logps": [[chosen / 2, 0.0], [0.0, 0.0]]}
    assert check("pairwise_cringe_loss", inputs, expected, {"alpha": 0.5, "b": 1.0, "tau": 2.0}, grads, **more) == ""


def test_picks_of_ties_are_in_the_order_of_their_ids():
    inputs = {"logits": [[[1.0, 1.0, 1.0, 0.0], [600.0, 0.0, 0.0, -600.0]]], "tokens": [[1, 0]]}
    top = [math.e / (2 * math.e + 1)] * 2
    expected = {"indices": [[[0, 2, 3], [1, 2, 3]]], "probs": [[[*top, 1 - 2 * top[0]], [0.5, 0.5, 0.0]]]}
    assert check("cringe_top_pick", inputs, expected, {"k": 3}) == ""
    terms = {**inputs, "picks": [[0, 1]]}
    assert check("cringe_token_terms", terms, {"value": [[LN2, 600.0]]}) == ""
    assert check("cringe_token_terms", {**terms, "mask": [[0, 1]]}, {"value": [[0.0, 600.0]]}) == ""


@pytest.mark.parametrize("wild", WILD)
def test_npo_is_a_mean_over_the_answers_to_forget_and_its_retain_term_comes_as_a_number(wild):
    columns = answers(wild)
    inputs = {
        name: columns[theirs]
        for name, theirs in (("forget_policy", "policy_logps"), ("forget_ref", "ref_logps"), ("forget_mask", "mask"))
    }
    each = [20 * math.log1p(math.exp(0.1 * rho)) for rho in (3.0, 0.0, -600.0)]
    weights = [2 * s(0.1 * rho) for rho in (3.0, 0.0, -600.0)]
    expected = {"loss": sum(each) / 3 + 0.5 * 4.0, "per_example": each, "gradient_weight": weights}
    grads = {"forget_policy": [[weights[0] / 3, 0.0, weights[0] / 3], [0.0] * 3, [weights[2] / 3, 0.0, 0.0]]}
    assert check("npo_loss", inputs, expected, {"beta": 0.1, "retain_nll": 4.0, "retain_coef": 0.5}, grads) == ""


@pytest.mark.parametrize("wild", WILD)
def test_d2o_divides_by_all_samples_of_a_group_the_empty_ones_too(wild):
    inputs = {
        "neg_policy": [[-1.0, wild], [wild, wild]],
        "neg_ref": [[-3.0, wild], [wild, wild]],
        "neg_mask": [[1, 0], [0, 0]],
        "self_policy": [[[-1.0], [wild]], [[-601.0], [-1.0]]],
        "self_ref": [[[-5.0], [wild]], [[-1.0], [-1.0]]],
        "self_mask": [[[1], [0]], [[1], [1]]],
    }
    each = [math.log1p(math.exp(-(0.2 * 4.0 / 2 - 0.5 * 2.0))), math.log1p(math.exp(60.0))]
    expected = {
        "loss": sum(each) / 2,
        "per_example": each,
        "anchor_reward": [0.4, -60.0],
        "negative_reward": [1.0, 0.0],
    }
    slope, far = s(0.6), s(60.0)
    grads = {
        "neg_policy": [[0.5 * slope / 2, 0.0], [0.0, 0.0]],
        "self_policy": [[[-0.1 * slope / 2], [0.0]], [[-0.1 * far / 2], [-0.1 * far / 2]]],
    }
    assert check("d2o_loss", inputs, expected, {"beta": 0.2, "alpha": 0.5}, grads) == ""


def test_an_average_over_any_shape():
    assert (
        check("ema_update", {"prev": [[0.0, 2.0]], "new": [[1.0, 1.0]]}, {"value": [[0.25, 1.75]]}, {"momentum": 0.75})
        == ""
    )


PLAIN = answers(0.0, labels=[1, 0, 0])
CRINGE = {"pos_logps": [[-1.0]], "pos_mask": [[1]], **negatives("neg", 0.0)}


@pytest.mark.parametrize(
    ("function", "inputs", "kwargs", "what"),
    [
        ("kto_loss", PLAIN, {}, "no kl"),
        ("bco_loss", PLAIN, {}, "no delta"),
        ("kto_loss", PLAIN, {"kl": 0.0, "loss_type": "apo"}, "argument loss_type"),
        ("kto_loss", PLAIN, {"kl": 0.0, "beta": -1.0}, "beta"),
        ("bco_delta", {"rewards": [1.0], "labels": [1]}, {"kind": "median"}, "delta_kind"),
        ("bco_loss", {**PLAIN, "weights": [1.0]}, {"delta": 0.0}, "column weights"),
        ("cringe_loss", CRINGE, {"alpha": 1.0, "reduction": "token"}, "reduction token"),
        ("cringe_loss", CRINGE, {"alpha": 1.0}, "reduction None"),
        ("cringe_loss", CRINGE, {"reduction": "sum"}, "alpha"),
        (
            "pairwise_cringe_loss",
            {"chosen_logps": [[-1.0]], "chosen_mask": [[1]], **negatives("rejected", 0.0)},
            {"alpha": 1.0, "b": 0.0},
            "tau",
        ),
        ("cringe_top_pick", {"logits": [[[1.0, 2.0]]], "tokens": [[0]]}, {}, "top_k"),
        ("dro_v_loss", answers(0.0, rewards=[1.0]), {}, "column values"),
    ],
)
def test_an_argument_or_a_column_that_is_missing_or_unknown_is_not_here(function, inputs, kwargs, what):
    with pytest.raises(NotHere, match=what):
        check(function, inputs, {"loss": 0.0}, kwargs)


def test_a_wrong_gradient_of_the_gate_is_a_miss():
    inputs = {"chosen_logps": [[-2.0], [-1.0]], "chosen_mask": [[1], [1]], **negatives("rejected", 0.0)}
    kwargs, zero = {"alpha": 0.5, "b": 1.0, "tau": 2.0}, {"chosen_logps": [[0.0], [0.0]]}
    assert "gradient of chosen_logps" in check("pairwise_cringe_loss", inputs, {}, kwargs, zero)


def test_every_function_is_tried_here(request):
    source = request.path.read_text()
    assert [name for name in UNPAIRED if f'"{name}"' not in source] == []
