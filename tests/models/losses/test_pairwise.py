"""Every pairwise method of the catalogue, one row each: laws that hold for all of them, and values worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data import catalogue
from alignflow.models.losses.base import exp_capped, expm1_capped, pairs_of_tokens
from alignflow.models.losses.margins import FORMS

LN2 = math.log(2)
AT_THE_REFERENCE = {
    "dpo": LN2,
    "sdpo": LN2,
    "cdpo": LN2,
    "robust": LN2,
    "ipo": 25.0,
    "gpo": LN2,
    "rso": 1.0,
    "exo": -LN2 - (math.log(1 - 1e-3) + math.log(1e-3)) / 2,
    "f_dpo": LN2,
    "apo_zero": 0.0,
    "apo_down": 0.0,
    "nca": 2 * LN2,
    "dpop": LN2,
    "rdpo": LN2,
    "dpo_length_normalised": LN2,
    "wpo": LN2,
}
"""Loss of each method with a reference where that is the policy and both answers have as many tokens (methods.md, section 0, rule 5)."""
METHODS = [
    name
    for name, row in catalogue.METHODS.items()
    if row.family == "pairs"
    and not (row.live_reference or row.reference_tokens or row.whole_step or "cringe_positive" in row.needs)
]
"""Methods that take sums of log-probabilities; those that take more have files of their own."""
WITH_REFERENCE = [name for name in METHODS if catalogue.METHODS[name].needs_reference]
TYPES = [torch.float32, torch.float64]
SUMS = st.floats(-300, 0)
LOWERS_CHOSEN = {"apo_down"}
"""Methods that lower the chosen answer too."""


def batch(policy_w, policy_l, reference_w=None, reference_l=None, masks=None):
    """Pairs from figures per token; the sum of p squared is such that the weights of WPO are 1."""
    if masks is None:
        masks = torch.ones_like(policy_w), torch.ones_like(policy_l)
    reference = None if reference_w is None else (reference_w, reference_l)
    pairs = pairs_of_tokens((policy_w, policy_l), masks, reference)
    for side in (pairs.chosen, pairs.rejected):
        side.statistics["squared_probability"] = side.statistics["logps"].detach().exp()
    return pairs


def loss_of(name, pairs, **options):
    row = catalogue.METHODS[name]
    return row.resolve()(pairs, row.options(**options))


def tensors(*rows, dtype=torch.float64):
    return [torch.tensor(row, dtype=dtype) for row in rows]


def total(output):
    return (output.loss if output.token_loss is None else output.loss + output.token_loss).sum()


def test_every_method_with_a_reference_has_its_value_at_the_reference():
    assert set(AT_THE_REFERENCE) == set(WITH_REFERENCE)


@pytest.mark.parametrize("name", WITH_REFERENCE)
@pytest.mark.parametrize("dtype", TYPES)
def test_where_the_policy_is_the_reference_each_loss_has_its_known_value(name, dtype):
    logps = torch.randn(3, 7, dtype=dtype).abs().neg()
    output = loss_of(name, batch(logps, logps.flip(1), logps, logps.flip(1)))
    torch.testing.assert_close(output.loss, torch.full((3,), AT_THE_REFERENCE[name], dtype=dtype), atol=1e-5, rtol=1e-5)
    assert output.loss.dtype == dtype and set(output.metrics["rewards/margins"].tolist()) == {0.0}


@pytest.mark.parametrize("form", FORMS)
def test_gpo_has_its_value_at_the_reference_in_each_form(form):
    logps = torch.randn(1, 5).abs().neg()
    found = float(loss_of("gpo", batch(logps, logps, logps, logps), form=form).loss)
    assert found == pytest.approx({"logistic": LN2, "savage": 0.25}.get(form, 1.0))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [600.0, -600.0, 0.0])
def test_margins_of_600_nats_and_ties_have_finite_losses_and_gradients(name, dtype, gap):
    policy_w, policy_l, reference = tensors([[-700.0 + gap / 2]], [[-700.0 - gap / 2]], [[-700.0]], dtype=dtype)
    policy_w.requires_grad_()
    policy_l.requires_grad_()
    output = loss_of(name, batch(policy_w, policy_l, reference, reference))
    total(output).backward()
    assert all(
        torch.isfinite(values).all() for values in (output.loss, policy_w.grad, policy_l.grad, *output.metrics.values())
    )


@pytest.mark.parametrize(
    "options", [{"f_divergence_type": kind} for kind in ("forward_kl", "js_divergence", "alpha_divergence")], ids=str
)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gap", [1e4, -1e4, 600.0, -600.0])
def test_f_dpo_overflows_in_no_divergence(options, dtype, gap):
    policy, reference = tensors([[gap - 2e4]], [[-2e4]], dtype=dtype)
    policy.requires_grad_()
    total(loss_of("f_dpo", batch(policy, reference, reference, reference), **options)).backward()
    assert torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", TYPES)
def test_garbage_outside_of_the_masks_changes_nothing_and_gets_no_gradient(name, dtype):
    clean = [
        torch.tensor(rows, dtype=dtype)
        for rows in ([[-1.0, -0.5, -2.0]], [[-0.3, -1.5, -1.0]], [[-1.2, -0.4, -2.5]], [[-0.6, -1.1, -0.9]])
    ]
    holes = torch.tensor([[1, 0, 1, 1, 0]]), torch.tensor([[0, 1, 1, 0, 1]])
    dirty = []
    for index, rows in enumerate(clean):
        wide = torch.tensor([[float("nan"), float("inf"), -float("inf"), 37.5, float("nan")]], dtype=dtype)
        wide[holes[index % 2].bool()] = rows[0]
        dirty.append(wide)
    outputs = []
    for values, masks in ((clean, None), (dirty, holes)):
        leaves = [rows.clone().requires_grad_() for rows in values[:2]]
        output = loss_of(name, batch(*leaves, *values[2:], masks))
        outputs.append((output.loss, *torch.autograd.grad(total(output), leaves)))
    torch.testing.assert_close(outputs[0][0], outputs[1][0])
    for plain, wide, mask in zip(outputs[0][1:], outputs[1][1:], holes, strict=True):
        assert torch.equal(wide[~mask.bool()], torch.zeros_like(wide[~mask.bool()]))
        torch.testing.assert_close(wide[mask.bool()], plain[0])


@pytest.mark.parametrize("name", [name for name in METHODS if name != "orpo"])
def test_an_answer_without_tokens_has_a_finite_loss(name):
    policy, masks = torch.full((1, 2), -1.0, requires_grad=True), (torch.zeros(1, 2), torch.ones(1, 2))
    output = loss_of(name, batch(policy, policy, policy.detach(), policy.detach(), masks))
    total(output).backward()
    assert torch.isfinite(output.loss).all() and torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("logp", [-1e-7, -1e-8, -1e-12, 0.0, -1e-30])
def test_orpo_is_finite_as_near_to_probability_1_as_the_type_can_tell(dtype, logp):
    policy_w, policy_l = tensors([[logp, logp]], [[-1.0, -2.0]], dtype=dtype)
    policy_w.requires_grad_()
    total(loss_of("orpo", batch(policy_w, policy_l))).backward()
    assert torch.isfinite(policy_w.grad).all() and (policy_w.grad < 0).all()


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25, deadline=None)
@given(a=SUMS, b=SUMS, c=SUMS, d=SUMS)
def test_a_step_along_the_gradient_raises_the_margin(name, a, b, c, d):
    """No method draws the chosen answer down or the rejected one up, but for those that say so."""
    policy_w, policy_l, reference_w, reference_l = tensors([[a]], [[b]], [[c]], [[d]])
    leaves = policy_w.requires_grad_(), policy_l.requires_grad_()
    if name in ("ipo", "exo", "cdpo", "robust", "nca"):  # beyond their optimum they draw the margin back
        policy_w.data, policy_l.data = reference_w.clone(), reference_l.clone()
    up, down = torch.autograd.grad(total(loss_of(name, batch(*leaves, reference_w, reference_l))), leaves)
    assert down - up >= 0 or name in LOWERS_CHOSEN
    assert up <= 1e-12 or name in LOWERS_CHOSEN


@pytest.mark.parametrize("name", METHODS)
def test_fp32_agrees_with_fp64(name):
    generator = torch.Generator().manual_seed(1)
    values = [-torch.rand(8, 5, generator=generator, dtype=torch.float64) * 3 for _ in range(4)]
    wide, narrow = (
        loss_of(name, batch(*[rows.to(kind) for rows in values])).loss for kind in (torch.float64, torch.float32)
    )
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_is_computed_in_fp32(name):
    values = [torch.full((1, 4), value, dtype=torch.bfloat16) for value in (-1.0, -2.0, -1.5, -1.5)]
    assert loss_of(name, batch(*values)).loss.dtype == torch.float32


def both(name, first, second):
    rows = [-torch.rand(4, 6, dtype=torch.float64) * 2 for _ in range(4)]
    pairs = batch(*rows)
    return loss_of(name, pairs, **first).loss, loss_of(*second[:1], pairs, **second[1]).loss


@pytest.mark.parametrize(
    ("name", "options", "other", "factor"),
    [
        ("cdpo", {"label_smoothing": 0.0}, ("dpo", {}), 1),
        ("cdpo", {}, ("dpo", {"label_smoothing": 0.1}), 1),
        ("robust", {"label_smoothing": 0.0}, ("dpo", {}), 1),
        ("gpo", {}, ("dpo", {}), 1),
        ("f_dpo", {}, ("dpo", {}), 1),
        ("f_dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.0}, ("dpo", {}), 1),
        ("gpo", {"form": "hinge"}, ("rso", {"beta": 0.1}), 1),
        ("dpop", {"dpop_lambda": 0.0, "beta": 0.1}, ("dpo", {}), 1),
        ("rdpo", {"alpha": 0.0}, ("dpo", {}), 1),
        ("wpo", {"beta": 0.1}, ("dpo", {}), 1),
        ("ipo", {"beta": 0.25, "length_normalise": False}, ("gpo", {"form": "squared", "beta": 0.5}), 4.0),
    ],
)
def test_special_cases_are_other_methods(name, options, other, factor):
    found, wanted = both(name, options, other)
    torch.testing.assert_close(found, factor * wanted)


def test_a_longer_chosen_answer_lowers_the_length_regularised_loss():
    short, long = torch.full((1, 2), -1.0), torch.full((1, 9), -1.0)
    losses = [float(loss_of("rdpo", batch(chosen, short, chosen, short)).loss) for chosen in (short, long)]
    assert losses[1] < losses[0] == pytest.approx(LN2)


def test_wpo_weighs_a_pair_by_how_likely_the_policy_writes_it_and_by_at_most_1():
    policy = torch.full((1, 2), math.log(0.5), requires_grad=True)
    weights = {}
    for square in (0.25, 0.5, 1.0):
        pairs = batch(policy, policy, policy.detach(), policy.detach())
        for side in (pairs.chosen, pairs.rejected):
            side.statistics["squared_probability"] = torch.full((2,), square)
        weights[square] = float(loss_of("wpo", pairs).metrics["weights"])
    assert weights == pytest.approx({0.25: 1.0, 0.5: 1.0, 1.0: 0.25})


def test_cpo_and_orpo_leave_their_nll_to_be_divided_by_the_tokens_of_the_step():
    policy_w, policy_l = tensors([[-1.0, -2.0]], [[-3.0, -4.0]])
    assert loss_of("cpo", batch(policy_w, policy_l)).token_loss.tolist() == [3.0]
    assert loss_of("orpo", batch(policy_w, policy_l)).token_loss.tolist() == [3.0]
    sums = loss_of("cpo", batch(policy_w, policy_l), nll_reduction="sequence")
    assert sums.token_loss is None and float(sums.loss) == pytest.approx(3.0 + math.log1p(math.exp(-0.4)))


def test_orpo_has_its_nll_over_prompts_too_where_it_is_asked_to():
    policy_w, policy_l, prompt = tensors([[-1.0, -2.0], [-0.5, -0.25]], [[-3.0, -4.0], [-1.0, -1.0]], [-7.0, -11.0])
    prompt.requires_grad_(True)
    pairs = batch(policy_w, policy_l)
    with pytest.raises(ValueError, match="pass prompt_logps"):
        loss_of("orpo", pairs, nll_tokens="prompt_and_answer")
    own = loss_of("orpo", pairs)
    whole = loss_of(
        "orpo", replace(pairs, chosen=replace(pairs.chosen, prompt_logps=prompt)), nll_tokens="prompt_and_answer"
    )
    assert whole.token_loss.tolist() == [10.0, 11.75] and own.token_loss.tolist() == [3.0, 0.75]
    assert torch.equal(whole.loss, own.loss), "odds are of the answers alone"
    total(whole).backward()
    assert prompt.grad.tolist() == [-1.0, -1.0]


FAR = [
    ("f_dpo", {"f_divergence_type": "forward_kl"}),
    ("f_dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 2.0}),
    ("gpo", {"form": "exponential", "beta": 1.0}),
]


@pytest.mark.parametrize(
    ("name", "options"), FAR, ids=lambda value: value if isinstance(value, str) else next(iter(value.values()))
)
@pytest.mark.parametrize("rho", [-50.0, -81.0, -200.0])
def test_a_pair_far_from_the_reference_still_learns_and_its_gradient_can_be_clipped(name, options, rho):
    """The exponential forms, in fp32: the chosen answer has lost -rho nats, and the rejected one has won as many."""
    weights = torch.full((64, 64), 1.0, requires_grad=True)
    reference, shift = torch.full((1, 64), -4.0), torch.full((1, 64), rho / 64)
    moved = shift * weights.mean(1)[None]
    total(loss_of(name, batch(reference + moved, reference - moved, reference, reference), **options)).backward()
    assert (weights.grad > 0).all(), "smaller weights bring both answers back to the reference"
    norm = torch.nn.utils.clip_grad_norm_([weights], 1.0)
    assert torch.isfinite(norm) and norm > 0 and torch.linalg.vector_norm(weights.grad) == pytest.approx(1.0, rel=1e-4)


def test_an_exponential_goes_on_as_its_tangent_beyond_the_cap():
    below, cap, beyond = 29.0, 30.0, 32.0
    for function, offset in ((exp_capped, 0), (expm1_capped, 1)):
        values = torch.tensor([below, cap, beyond], requires_grad=True)
        found = function(values)
        found.sum().backward()
        torch.testing.assert_close(
            found.detach() + offset, torch.tensor([math.exp(29), math.exp(30), 3 * math.exp(30)]), rtol=1e-5, atol=0
        )
        torch.testing.assert_close(
            values.grad, torch.tensor([math.exp(29), math.exp(30), math.exp(30)]), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("alpha", [1 - 1e-6, 1 + 1e-6])
def test_the_alpha_divergence_near_1_is_dpo(dtype, alpha):
    values = tensors([[-3.0, -1.0]], [[-2.0, -2.5]], [[-1.0, -1.5]], [[-2.25, -1.0]], dtype=dtype)
    near = loss_of("f_dpo", batch(*values), f_divergence_type="alpha_divergence", f_alpha_divergence_coef=alpha)
    torch.testing.assert_close(near.loss, loss_of("dpo", batch(*values)).loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "policy_w", "wanted"),
    [  # the chosen answer's sum stands where the hinge begins: the rejected one's and both references are -1
        ("rso", {"beta": 1.0}, 0.0, 0.0),
        ("gpo", {"form": "hinge", "beta": 1.0}, 0.0, 0.0),
        ("slic_hf", {"delta": 1.0, "reg_coef": 0.0}, 0.0, 0.0),
        ("dpop", {"beta": 1.0, "dpop_lambda": 5.0}, -1.0, -0.5),
    ],
)
def test_at_the_corner_of_a_hinge_no_gradient_passes(name, options, policy_w, wanted):
    chosen, other = tensors([[policy_w]], [[-1.0]])
    chosen.requires_grad_()
    total(loss_of(name, batch(chosen, other, other, other), **options)).backward()
    assert float(chosen.grad) == pytest.approx(wanted)
