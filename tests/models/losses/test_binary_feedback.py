"""KTO, BCO and DRO-V: values at the reference, signs, what gets no gradient, and what they need of a whole step."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.configs.pairwise import BetaOptions
from alignflow.data.configs.unpaired import BCOOptions, DROVOptions, KTOOptions
from alignflow.models.losses.base import answers_of_tokens
from alignflow.models.losses.binary_feedback import (
    NAN,
    apo_zero_unpaired,
    bco,
    bco_delta,
    dro_v,
    dro_v_terms,
    ema_update,
    kto,
    kto_kl,
    score_scale,
)

TYPES = [torch.float32, torch.float64]
LOSSES = {
    "kto": (kto, KTOOptions),
    "apo_zero_unpaired": (apo_zero_unpaired, BetaOptions),
    "bco": (bco, BCOOptions),
    "dro_v": (dro_v, DROVOptions),
}
STEP = {"kl": 0.0, "delta": 0.0, "score_mean": 0.0, "score_std": 1.0}


def answers(policy, reference=None, mask=None, values=None, **columns):
    """Answers with labels, scores and values, from figures per token; by default good, bad, good, ..."""
    mask = torch.ones_like(policy) if mask is None else mask
    columns = {
        "label": (torch.arange(len(policy)) + 1) % 2.0,
        "score": torch.linspace(-1, 1, len(policy)).to(policy.dtype),
        **columns,
    }
    columns["step"] = {name: torch.tensor(value) for name, value in {**STEP, **columns.get("step", {})}.items()}
    values = torch.zeros(int(mask.sum()), dtype=policy.dtype) if values is None else values
    return answers_of_tokens(
        policy, mask, policy.detach() if reference is None else reference, statistics={"values": values}, **columns
    )


def loss_of(name, batch, **options):
    function, kind = LOSSES[name]
    return function(batch, kind(**options))


def rows(*shape, dtype=torch.float64, seed=0):
    return -3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_at_the_reference_kto_is_half_the_weight_bco_is_ln_2_and_dro_v_is_half_the_squared_score(dtype):
    batch = answers(rows(4, 5, dtype=dtype))
    weighted = loss_of("kto", batch, desirable_weight=3.0, undesirable_weight=0.5)
    assert weighted.loss.tolist() == [1.5, 0.25, 1.5, 0.25] and weighted.loss.dtype == dtype
    torch.testing.assert_close(loss_of("bco", batch).loss, torch.full((4,), math.log(2), dtype=dtype))
    torch.testing.assert_close(loss_of("dro_v", batch).loss, batch.score.square() / 2)


@pytest.mark.parametrize("name", ["kto", "bco", "apo_zero_unpaired"])
@settings(max_examples=40, deadline=None)
@given(st.floats(-300, 0), st.floats(-300, 0), st.floats(-50, 50))
def test_a_good_answer_is_raised_and_a_bad_one_is_lowered(name, policy, reference, shift):
    """The bad answer's term is added: an implementation that subtracts it raises bad answers."""
    logps = torch.tensor([[policy], [policy]], dtype=torch.float64, requires_grad=True)
    batch = answers(
        logps, torch.full((2, 1), reference, dtype=torch.float64), step={"kl": max(shift, 0.0), "delta": shift}
    )
    output = loss_of(name, batch)
    output.loss.sum().backward()
    assert logps.grad[0] <= 0 <= logps.grad[1] and bool((output.loss >= 0).all())


def test_apo_zero_without_pairs_is_kto_without_its_kl():
    batch = answers(rows(4, 5), rows(4, 5, seed=1), step={"kl": 0.0})
    found, kto_loss = (loss_of(name, batch, beta=0.3).loss for name in ("apo_zero_unpaired", "kto"))
    torch.testing.assert_close(found, kto_loss)


def test_kto_is_worked_out_by_hand():
    batch = answers(torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1), step={"kl": 3.0})
    found = loss_of("kto", batch, beta=0.5).loss
    torch.testing.assert_close(found, torch.tensor([1 - 1 / (1 + math.e), 1 - 1 / (1 + math.exp(-1))]))


@pytest.mark.parametrize("name", ["kto", "bco"])
def test_no_gradient_reaches_the_reference_or_the_shift(name):
    policy, reference, shift = (
        rows(3, 4).requires_grad_(),
        rows(3, 4, seed=1).requires_grad_(),
        torch.tensor(0.3, requires_grad=True),
    )
    batch = answers_of_tokens(
        policy, torch.ones(3, 4), reference, label=torch.tensor([1.0, 0.0, 0.0]), step={"kl": shift, "delta": shift}
    )
    output = loss_of(name, batch)
    found = torch.autograd.grad(output.loss.sum(), [policy, reference, shift], allow_unused=True)
    assert bool((found[0] != 0).all()) and found[1] is None and found[2] is None
    assert not any(values.requires_grad for values in output.metrics.values())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [600.0, -600.0, 0.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_log_ratios_of_600_nats_have_finite_losses_and_gradients_in_a_step_of_one_class(name, dtype, gap, label):
    policy = torch.tensor([[gap - 700.0]], dtype=dtype, requires_grad=True)
    batch = answers(
        policy,
        torch.tensor([[-700.0]], dtype=dtype),
        label=torch.tensor([label]),
        score=torch.tensor([1.0], dtype=dtype),
    )
    options = {} if name == "dro_v" else {"beta": 1.0}
    output = loss_of(name, batch, **options)
    output.loss.sum().backward()
    assert torch.isfinite(output.loss).all() and torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("garbage", [NAN, float("inf"), -float("inf"), 1e300])
def test_garbage_outside_of_masks_with_holes_changes_nothing_and_gets_no_gradient(name, dtype, garbage):
    clean, reference = rows(2, 3, dtype=dtype), rows(2, 3, dtype=dtype, seed=1)
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    dirty, other = (
        torch.full((2, 5), garbage, dtype=torch.float64).to(dtype).masked_scatter(mask.bool(), part)
        for part in (clean, reference)
    )
    results = []
    for policy, frozen, of in ((clean, reference, None), (dirty, other, mask)):
        leaf = policy.clone().requires_grad_()
        output = loss_of(name, answers(leaf, frozen, of, torch.arange(6, dtype=dtype)))
        results.append((output.loss, torch.autograd.grad(output.loss.sum(), leaf)[0]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[1][1][mask.bool()], results[0][1].flatten())
    assert bool((results[1][1][~mask.bool()] == 0).all())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("options", [{}, {"value_per_token": True}], ids=["", "value_per_token"])
def test_an_answer_without_tokens_is_finite_and_has_no_gradient(name, options):
    policy = rows(3, 2).requires_grad_()
    mask = torch.tensor([[1, 1], [0, 0], [1, 0]])
    values = torch.ones(3, dtype=torch.float64)
    output = loss_of(name, answers(policy, rows(3, 2, seed=1), mask, values), **(options if name == "dro_v" else {}))
    output.loss.sum().backward()
    assert torch.isfinite(output.loss).all() and torch.equal(policy.grad != 0, mask.bool())
    assert output.metrics.get("values", torch.tensor([1.0, 0.0, 1.0])).tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("name", LOSSES)
def test_fp32_agrees_with_fp64_and_half_precision_is_computed_in_fp32(name):
    wide = [rows(6, 9), rows(6, 9, seed=1)]
    losses = {
        dtype: loss_of(name, answers(*(part.to(dtype) for part in wide))).loss for dtype in (*TYPES, torch.bfloat16)
    }
    torch.testing.assert_close(losses[torch.float32].double(), losses[torch.float64], rtol=1e-4, atol=1e-6)
    assert losses[torch.bfloat16].dtype == torch.float32


def test_figures_of_a_class_are_nan_on_the_other_one():
    metrics = loss_of("kto", answers(torch.tensor([[-1.0], [-2.0]]), torch.zeros(2, 1)), beta=1.0).metrics
    assert {name: float(values.nanmean()) for name, values in metrics.items()} == {
        "rewards/chosen": -1.0,
        "rewards/rejected": -2.0,
        "logps/chosen": -1.0,
        "logps/rejected": -2.0,
        "kl": 0.0,
    }
    assert metrics["rewards/chosen"].isnan().tolist() == [False, True] and metrics[
        "logps/rejected"
    ].isnan().tolist() == [True, False]


def test_answers_without_labels_or_scores_are_refused():
    for name in ("kto", "bco"):
        with pytest.raises(ValueError, match="label"):
            loss_of(name, answers(rows(1, 1), label=None))
    with pytest.raises(ValueError, match="score"):
        loss_of("dro_v", answers(rows(1, 1), score=None))


@pytest.mark.parametrize(
    ("logratios", "wanted"), [([1.0, 3.0, -1.0], 1.0), ([-5.0, 1.0], 0.0), ([], 0.0), ([4.0, 0.0], 2.0)]
)
def test_z0_is_the_mean_of_the_whole_step_and_at_least_0(logratios, wanted):
    found = kto_kl(torch.tensor(logratios, requires_grad=True))
    assert float(found) == wanted and not found.requires_grad


def test_delta_lies_between_the_classes_however_many_answers_each_has():
    rewards, label = torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert float(bco_delta(rewards, label, None, BCOOptions())[0]) == 0.0
    assert float(bco_delta(rewards, label, None, BCOOptions(delta_kind="pooled"))[0]) == 0.5


def test_delta_moves_with_each_class_and_a_class_without_answers_keeps_its_mean():
    options, both = BCOOptions(delta_momentum=0.75), torch.tensor([1.0, 0.0])
    delta, state = bco_delta(torch.tensor([2.0, -4.0]), both, None, options)
    assert float(delta) == -1.0 and state.tolist() == [2.0, -4.0, -1.0]
    delta, state = bco_delta(torch.tensor([6.0, 6.0]), torch.ones(2), state, options)
    assert state.tolist() == [3.0, -4.0, 0.75] and float(delta) == -0.5
    delta, after = bco_delta(torch.tensor([]), torch.tensor([]), state, options)
    assert torch.equal(after, state) and float(delta) == -0.5


def test_before_a_class_was_seen_delta_is_the_mean_of_the_other_and_it_gets_no_gradient():
    rewards = torch.tensor([1.0, 3.0], requires_grad=True)
    delta, state = bco_delta(rewards, torch.zeros(2), None, BCOOptions())
    assert (
        float(delta) == 2.0
        and state.isnan().tolist() == [True, False, False]
        and not (delta.requires_grad or state.requires_grad)
    )
    delta, state = bco_delta(torch.tensor([8.0]), torch.ones(1), state, BCOOptions())
    assert float(delta) == 5.0 and state[:2].tolist() == [8.0, 2.0]
    assert float(bco_delta(torch.tensor([]), torch.tensor([]), None, BCOOptions())[0]) == 0.0


def test_an_average_moves_by_what_momentum_leaves():
    assert ema_update(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]), 0.75).tolist() == [0.25, 1.75]


@pytest.mark.parametrize("tau", [0.5, 1.0, 5.0])
def test_dro_v_has_the_value_of_its_objective_and_the_gradients_of_its_algorithm(tau):
    """The policy's gradient is the true one divided by tau, the values' is the true one."""
    policy, values = (
        rows(3, 2).requires_grad_(),
        torch.tensor([0.5, 9.0, -1.0, 9.0, 2.0, 9.0], dtype=torch.float64, requires_grad=True),
    )
    batch = answers(policy, rows(3, 2, seed=1), values=values)
    rho, first = batch.logratios(), values[::2]
    joint = (batch.score - first - tau * rho).square() / 2
    output = loss_of("dro_v", batch, tau=tau)
    torch.testing.assert_close(output.loss, joint)
    found, wanted = (
        torch.autograd.grad(loss.sum(), [policy, values], retain_graph=True) for loss in (output.loss, joint)
    )
    torch.testing.assert_close(found[0], wanted[0] / tau)
    torch.testing.assert_close(found[1], wanted[1])
    torch.testing.assert_close(output.metrics["residuals"], (batch.score - first - tau * rho).detach())


def test_the_two_parts_of_dro_v_learn_apart():
    lp, values = torch.tensor([-2.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    terms = dro_v_terms(lp, lp + 1.0, torch.tensor([3.0]), values, 2.0)
    policy, value = (
        torch.autograd.grad(term.sum(), [lp, values], retain_graph=True, allow_unused=True)
        for term in (terms.policy, terms.value)
    )
    assert policy[1] is None and value[0] is None
    assert float(policy[0]) == -4.5 and float(value[1]) == -4.5  # residual 3 - 0.5 + 2 = 4.5


def test_dro_v_learns_a_higher_probability_for_a_score_above_the_value_and_a_lower_one_below_it():
    policy = torch.full((2, 1), -1.0, requires_grad=True)
    loss_of("dro_v", answers(policy, score=torch.tensor([1.0, -1.0]))).loss.sum().backward()
    assert policy.grad[0] < 0 < policy.grad[1]


def test_values_per_token_are_averaged_over_the_tokens_of_each_answer():
    policy, mask = torch.zeros(2, 3, requires_grad=True), torch.tensor([[1, 1, 0], [1, 1, 1]])
    values = torch.tensor([0.0, 2.0, 1.0, 1.0, 1.0], requires_grad=True)
    output = loss_of(
        "dro_v", answers(policy, mask=mask, values=values, score=torch.tensor([1.0, 3.0])), value_per_token=True
    )
    assert output.loss.tolist() == [0.5, 2.0] and output.metrics["values"].tolist() == [1.0, 1.0]
    output.loss.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([-0.5, 0.5, -2 / 3, -2 / 3, -2 / 3]))
    torch.testing.assert_close(policy.grad, torch.tensor([[0.0, 0.0, 0.0], [-2.0, -2.0, -2.0]]))


def test_scores_enter_with_the_mean_and_the_deviation_of_the_training_set():
    scores = torch.tensor([1.0, 3.0])
    mean, deviation = score_scale(scores)
    assert (float(mean), float(deviation)) == (2.0, 1.0) and [
        float(part) for part in score_scale(torch.tensor([4.0, 4.0]))
    ] == [4.0, 1.0]
    batch = answers(torch.zeros(2, 1), score=torch.tensor([4.0, 10.0]), step={"score_mean": 4.0, "score_std": 3.0})
    assert loss_of("dro_v", batch).loss.tolist() == [0.0, 2.0] and loss_of(
        "dro_v", batch, normalise_scores=False
    ).loss.tolist() == [8.0, 50.0]
