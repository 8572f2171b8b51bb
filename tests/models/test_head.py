"""Statistics of the head equal plain log_softmax, and their written-out gradients equal numerical ones."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from alignflow.models import head as head_module
from alignflow.models.cringe_picks import draw_picks
from alignflow.models.head import Head, Reference, Request, Scaling, head_statistics
from alignflow.models.token_statistics import STATISTICS

TOKENS, WIDTH, VOCABULARY, TOP = 7, 5, 11, 3
UNIFORM = torch.rand(TOKENS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
SCALINGS = [Scaling(), Scaling(factor=0.7, cap=2.0, temperature=1.3)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Three chunks, the last one not full."""
    monkeypatch.setattr(head_module, "CHUNK_TOKENS", {"cpu": 3})


def parts(dtype=torch.float64, bias=True):
    """Hidden states, a head, targets, and a reference."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def linear():
        module = torch.nn.Linear(WIDTH, VOCABULARY, bias=bias, dtype=dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(drawn(*parameter.shape))
        return module

    targets = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    reference = Reference(Head(linear().requires_grad_(False), Scaling(), dtype), drawn(TOKENS, WIDTH))
    return drawn(TOKENS, WIDTH).requires_grad_(), linear(), targets, reference


def plain(hidden, module, scaling, targets, reference):
    """Every statistic by its definition, from all logits at once."""
    logits = module(hidden) * scaling.factor
    logits = scaling.cap * torch.tanh(logits / scaling.cap) if scaling.cap else logits
    logps = (logits / scaling.temperature).log_softmax(-1)
    p, q = logps.exp(), reference.head.module(reference.hidden).log_softmax(-1)
    half = torch.logaddexp(logps, q) - math.log(2)
    return {
        "logps": logps.gather(-1, targets[:, None])[:, 0],
        "entropy": -(p * logps).sum(-1),
        "squared_probability": (p * p).sum(-1),
        "correct": (logps.argmax(-1) == targets).to(p.dtype),
        "top_logps": logps.topk(TOP).values,
        "top_ids": logps.topk(TOP).indices,
        "forward_kl": (q.exp() * (q - logps)).sum(-1),
        "reverse_kl": (p * (logps - q)).sum(-1),
        "generalized_jsd": (q.exp() * (q - half)).sum(-1) / 2 + (p * (logps - half)).sum(-1) / 2,
        "reference_logps": q.gather(-1, targets[:, None])[:, 0],
        "cringe_positive": logps.gather(-1, draw_picks(logps, targets, TOP, UNIFORM)[:, None])[:, 0],
    }


def test_every_statistic_has_a_definition_here():
    hidden, module, targets, reference = parts()
    assert plain(hidden, module, Scaling(), targets, reference).keys() == STATISTICS.keys()


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", list(STATISTICS))
def test_it_is_what_its_definition_says_and_so_is_its_gradient(name, scaling):
    hidden, module, targets, reference = parts()
    wanted = plain(hidden, module, scaling, targets, reference)[name]
    found = head_statistics(
        Head(module, scaling, torch.float64), hidden, Request((name,), targets, TOP, reference, UNIFORM)
    )[0]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    assert found.requires_grad == (STATISTICS[name].gradient is not None)
    if found.requires_grad:
        weight = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(1))
        inputs = (hidden, module.weight, module.bias)
        for one, other in zip(
            torch.autograd.grad(found, inputs, weight), torch.autograd.grad(wanted, inputs, weight), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", [name for name, row in STATISTICS.items() if row.gradient])
def test_its_gradient_is_the_numerical_one(name, scaling):
    hidden, module, targets, reference = parts()

    def values(states, weight, bias):
        head = Head(module, scaling, torch.float64)
        return head_module._Statistics.apply(
            states, weight, bias, head, Request((name,), targets, TOP, reference, UNIFORM)
        )

    assert gradcheck(values, (hidden, module.weight, module.bias))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("beta", [0.0, 0.2, 0.9, 1.0])
def test_the_gradient_of_the_jensen_shannon_divergence_is_the_numerical_one_for_any_beta(beta, scaling):
    hidden, module, targets, reference = parts()

    def values(states, weight, bias):
        request = Request(("generalized_jsd",), targets, TOP, reference, jsd_beta=beta)
        return head_module._Statistics.apply(states, weight, bias, Head(module, scaling, torch.float64), request)

    assert gradcheck(values, (hidden, module.weight, module.bias))


COMPARING = [name for name, row in STATISTICS.items() if row.compares]


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("adapted", [False, True], ids=["written_out", "checkpointed"])
def test_the_size_of_a_chunk_changes_neither_value_nor_gradient_and_the_reference_gets_none(name, adapted, monkeypatch):
    hidden, module, targets, reference = parts()
    reference.head.module.requires_grad_()
    head = Head(torch.nn.Sequential(module) if adapted else module, Scaling(cap=2.0), torch.float64)
    results = []
    for tokens in (1, 2, TOKENS, 100):
        monkeypatch.setattr(head_module, "CHUNK_TOKENS", {"cpu": tokens})
        found = head_statistics(head, hidden, Request((name,), targets, TOP, reference, jsd_beta=0.3))[0]
        gradients = torch.autograd.grad(found.square().sum(), (hidden, module.weight)) if found.requires_grad else ()
        results.append((found, *gradients))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            torch.testing.assert_close(one, other, atol=1e-13, rtol=1e-13)
    assert reference.head.module.weight.grad is None
    assert len(results[0]) == (1 if STATISTICS[name].gradient is None else 3)


def test_several_at_once_add_their_gradients():
    hidden, module, targets, reference = parts()
    names = ("entropy", "correct", "logps", "forward_kl")
    found = head_statistics(Head(module, Scaling(), torch.float64), hidden, Request(names, targets, TOP, reference))
    wanted = plain(hidden, module, Scaling(), targets, reference)
    first = torch.autograd.grad(found[0].sum() + (2 * found[2]).sum(), hidden)[0]
    second = torch.autograd.grad(wanted["entropy"].sum() + (2 * wanted["logps"]).sum(), hidden)[0]
    torch.testing.assert_close(first, second, atol=1e-11, rtol=1e-11)


def whole_gradient(module, hidden, targets, reduced, names=("logps", "correct"), scaling=SCALINGS[0], summed=True):
    """The gradients of `reduced` of the log-probabilities, as training gets them."""
    request = Request(names, targets, summed=summed)
    found = head_statistics(Head(module, scaling, hidden.dtype), hidden, request)[0]
    wanted = [tensor for tensor in (hidden, *module.parameters()) if tensor.requires_grad]
    return torch.autograd.grad(reduced(found), wanted)


@pytest.fixture
def chunks_made(monkeypatch):
    """How often a chunk's logits are computed."""
    made, true = [], Request.chunk
    monkeypatch.setattr(Request, "chunk", lambda *given: made.append(given[-1]) or true(*given))
    return made


EQUAL = {"sum": torch.sum, "mean": torch.mean, "nothing": lambda logps: logps.sum() * 0.0}
UNEQUAL = {"squares": lambda logps: logps.square().sum(), "a_part": lambda logps: logps[2:5].sum()}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("reduced", [*EQUAL, *UNEQUAL])
def test_the_gradient_of_a_sum_is_the_same_when_it_is_computed_with_the_logits_and_when_the_caller_was_wrong(
    reduced, scaling, chunks_made
):
    hidden, module, targets, _ = parts()
    function = (EQUAL | UNEQUAL)[reduced]
    at_once = whole_gradient(module, hidden, targets, function, scaling=scaling)
    assert len(chunks_made) == (3 if reduced in EQUAL else 6), "logits are computed again where the factors differ"
    again = whole_gradient(module, hidden, targets, function, scaling=scaling, summed=False)
    for one, other in zip(at_once, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("reduced", [*EQUAL, *UNEQUAL])
def test_beside_a_frozen_head_logits_are_computed_once_whatever_the_loss(reduced, chunks_made):
    hidden, module, targets, _ = parts()
    function = (EQUAL | UNEQUAL)[reduced]
    wanted = whole_gradient(module, hidden, targets, function, summed=False)[0]
    chunks_made.clear()
    found = whole_gradient(module.requires_grad_(False), hidden, targets, function, summed=False)
    assert len(found) == 1 and len(chunks_made) == 3
    torch.testing.assert_close(found[0], wanted, atol=1e-14, rtol=1e-12)


def test_a_second_backward_pass_gives_the_same_gradient_again():
    hidden, module, targets, _ = parts()
    found = head_statistics(Head(module, Scaling(), torch.float64), hidden, Request(("logps",), targets, summed=True))
    first, second = (torch.autograd.grad(found[0].mean(), (hidden, module.weight), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=1e-12)


def test_without_gradients_nothing_is_prepared_for_a_backward_pass(monkeypatch):
    hidden, module, targets, _ = parts()
    monkeypatch.setattr(head_module, "_Gradients", None)
    with torch.no_grad():
        head_statistics(Head(module, Scaling(), torch.float64), hidden, Request(("logps",), targets, summed=True))


def test_in_fp32_the_gradient_is_that_of_fp64_within_rounding_and_the_same_bits_each_time():
    runs = []
    for dtype in (torch.float64, torch.float32, torch.float32):
        hidden, module, targets, _ = parts()
        module, hidden = module.to(dtype), hidden.detach().to(dtype).requires_grad_()
        runs.append(whole_gradient(module, hidden, targets, torch.mean))
    for wide, one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one.double(), wide, atol=1e-6, rtol=1e-5)
        assert torch.equal(one, other)


def test_a_head_that_is_no_plain_matrix_gives_the_same_by_checkpointing():
    hidden, module, targets, reference = parts()

    class Adapted(torch.nn.Module):
        def forward(self, states):
            return module(states)

    request = Request(("logps", "entropy", "top_logps", "cringe_positive"), targets, TOP, reference, UNIFORM)
    results = [head_statistics(Head(head, Scaling(), torch.float64), hidden, request) for head in (module, Adapted())]
    gradients = [torch.autograd.grad(sum(value.sum() for value in found), (hidden, module.weight)) for found in results]
    for one, other in zip((*results[0], *gradients[0]), (*results[1], *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-11)


def test_no_token_is_no_error():
    _, module, _, _ = parts()
    found = head_statistics(
        Head(module, Scaling(), torch.float64),
        torch.zeros(0, WIDTH, dtype=torch.float64),
        Request(("logps",), torch.zeros(0).long()),
    )
    assert found[0].shape == (0,)


def test_bf16_products_give_fp32_log_probabilities_and_gradients_near_those_of_fp32():
    hidden, module, targets, _ = parts(torch.float32, bias=False)
    values, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        values.append(head_statistics(Head(module, Scaling(), dtype), hidden, Request(("logps",), targets))[0])
        gradients.append(torch.autograd.grad(values[-1].sum(), module.weight)[0])
    assert values[1].dtype == gradients[1].dtype == torch.float32
    torch.testing.assert_close(values[1], values[0], atol=0.05, rtol=0.05)
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("names", [("logps", "entropy"), ("logps", "forward_kl", "generalized_jsd")], ids="+".join)
def test_logits_of_all_tokens_are_never_in_memory(names):
    """The largest tensor that autograd keeps is the hidden states or the matrix, not (tokens, vocabulary)."""
    hidden, module, targets, reference = parts()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        head_statistics(Head(module, Scaling(), torch.float64), hidden, Request(names, targets, TOP, reference))
    assert sizes and max(sizes) <= max(TOKENS * WIDTH, WIDTH * VOCABULARY) < TOKENS * VOCABULARY


def test_the_references_head_does_not_run_again_where_nothing_is_learnt_through_it():
    hidden, module, targets, reference = parts()
    ran = []
    counting = torch.nn.Sequential(reference.head.module)
    counting.register_forward_hook(lambda *_: ran.append(1))
    other = Reference(Head(counting, reference.head.scaling, torch.float64), reference.hidden)
    names = ("logps", "reference_logps", "forward_kl")
    logps, _, kl = head_statistics(
        Head(module, Scaling(), torch.float64), hidden, Request(names, targets, reference=other)
    )
    chunks = len(ran)
    logps.sum().backward(retain_graph=True)
    assert len(ran) == chunks > 0
    kl.sum().backward()
    assert len(ran) == 2 * chunks


def test_a_model_beside_itself_has_log_probabilities_that_differ_by_exactly_0():
    hidden, module, targets, _ = parts(torch.float32)
    head = Head(module, Scaling(), torch.float32)
    itself = Reference(head, hidden.detach())
    names = ("logps", "reference_logps", "forward_kl")
    logps, reference_logps, kl = head_statistics(head, hidden, Request(names, targets, reference=itself))
    assert torch.equal(logps, reference_logps)
    assert not kl.any()
