"""Packed log-probabilities are those of the plain model, row by row, with their gradients."""

import contextlib

import pytest
import torch
from transformers import AutoModelForCausalLM

from alignflow.data.configs.training import LoRAConfig, SFTConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models import attention
from alignflow.models import policy as policy_module
from alignflow.models.adapters import add_adapter
from alignflow.models.batching import EncodedRow, pack
from alignflow.models.cringe_picks import uniform_numbers
from alignflow.models.policy import check_same_vocabulary, completion_logps, load_policy

ROWS = [
    EncodedRow((4, 9, 20), (30, 31, 1)),
    EncodedRow((4,), (7, 8, 9, 10, 11, 1)),
    EncodedRow((4, 5, 6, 7, 8), (40,)),
    EncodedRow((4, 5), (50, 51, 52, 53), (True, False, False, True)),
]


def plain(path, rows):
    """Log-probabilities of the tokens that count, one row at a time through the model as transformers has it."""
    model = AutoModelForCausalLM.from_pretrained(path)
    results = []
    for row in rows:
        ids = torch.tensor([row.prompt_ids + row.completion_ids])
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0][len(row.prompt_ids) - 1 :]
        results.append(logps[torch.tensor(row.mask)] if row.mask else logps)
    return model, results


@pytest.fixture
def policy(tiny_checkpoint):
    return load_policy(tiny_checkpoint, Runtime(), trainable=True)


def test_log_probabilities_are_those_of_the_plain_model(policy, tiny_checkpoint):
    _, wanted = plain(tiny_checkpoint, ROWS)
    found = policy.token_statistics(ROWS)
    assert found.logps.dtype == torch.float32
    torch.testing.assert_close(found.logps, torch.cat(wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sums(), torch.stack([row.sum() for row in wanted]), atol=1e-5, rtol=1e-5)
    assert found.counts().tolist() == [3, 6, 1, 2]


@pytest.mark.parametrize("summed", [False, True])
def test_gradients_are_those_of_the_plain_model(policy, tiny_checkpoint, summed):
    model, wanted = plain(tiny_checkpoint, ROWS)
    torch.cat(wanted).sum().backward()
    policy.token_statistics(ROWS, summed=summed).logps.sum().backward()
    other = dict(model.named_parameters())
    for name, parameter in policy.model.named_parameters():
        torch.testing.assert_close(parameter.grad, other[name].grad, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_see_its_neighbours(policy):
    alone = policy.token_statistics(ROWS[:1]).logps
    together = policy.token_statistics([ROWS[2], ROWS[0], ROWS[1]]).logps[1:4]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_entropy_and_correct_are_on_request(policy):
    found = policy.token_statistics(ROWS, ("logps", "entropy", "correct"))
    assert (found.values["entropy"] > 0).all() and set(found.values["correct"].tolist()) <= {0.0, 1.0}


def test_chunks_of_the_head_change_nothing(policy, monkeypatch):
    whole = policy.token_statistics(ROWS).logps
    monkeypatch.setattr("alignflow.models.head.CHUNK_TOKENS", {"cpu": 2})
    torch.testing.assert_close(policy.token_statistics(ROWS).logps, whole)


@pytest.mark.parametrize("tokens", [4, 12, 1000])
def test_completion_logps_keep_the_order_of_rows_whatever_the_micro_batch(policy, tokens):
    found = completion_logps(policy, ROWS, tokens)
    whole = policy.token_statistics(ROWS).logps.detach()
    torch.testing.assert_close(torch.cat(found), whole, atol=1e-5, rtol=1e-5)
    assert [len(row) for row in found] == [3, 6, 1, 2]


def test_bf16_products_stay_near_fp32(policy, tiny_checkpoint):
    half = load_policy(tiny_checkpoint, Runtime(precision="bf16")).token_statistics(ROWS)
    assert half.logps.dtype == torch.float32
    torch.testing.assert_close(half.logps, policy.token_statistics(ROWS).logps.detach(), atol=0.05, rtol=0.05)


PAIR = [EncodedRow((4, 9, 20, 21), (30, 31, 1)), EncodedRow((4, 9, 20, 21), (33, 32, 31, 30, 1)), ROWS[1]]


def test_a_prompt_that_rows_share_is_computed_once(policy, tiny_checkpoint):
    """Values to 1e-5, gradients to 1e-4: those of the rows one by one."""
    model, wanted = plain(tiny_checkpoint, PAIR)
    found = policy.token_statistics(PAIR)
    assert pack(PAIR).input_ids.shape[1] == sum(map(len, PAIR)) - 4
    torch.testing.assert_close(found.logps, torch.cat(wanted), atol=1e-5, rtol=1e-5)
    found.logps.square().sum().backward()
    torch.cat(wanted).square().sum().backward()
    for parameter, other in zip(policy.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_a_policy_diverges_from_itself_by_nothing(policy):
    names = ("logps", "forward_kl", "reverse_kl", "reference_logps")
    found = policy.token_statistics(ROWS, names, reference=policy).values
    torch.testing.assert_close(found["reference_logps"], found["logps"])
    assert float(found["forward_kl"].abs().max()) < 1e-6 > float(found["reverse_kl"].abs().max())


def test_divergence_to_another_model_is_over_the_whole_vocabulary(policy, tiny_checkpoint):
    other = load_policy(tiny_checkpoint, Runtime())
    with torch.no_grad():
        other.model.get_output_embeddings().weight.mul_(1.5)
    row = ROWS[0]
    ids, places = torch.tensor([row.prompt_ids + row.completion_ids]), slice(len(row.prompt_ids) - 1, len(row) - 1)
    with attention_of_transformers(policy.model, other.model):
        logps, reference = (
            model(input_ids=ids).logits.log_softmax(-1)[0, places] for model in (policy.model, other.model)
        )
    found = policy.token_statistics([row], ("forward_kl", "reverse_kl"), reference=other).values
    torch.testing.assert_close(
        found["forward_kl"], (reference.exp() * (reference - logps)).sum(-1), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(found["reverse_kl"], (logps.exp() * (logps - reference)).sum(-1), atol=1e-5, rtol=1e-4)
    found["forward_kl"].sum().backward()
    assert (
        other.model.get_output_embeddings().weight.grad is None
        and policy.model.get_output_embeddings().weight.grad is not None
    )


def test_the_jensen_shannon_divergence_is_that_of_the_teacher_at_the_temperature(policy, tiny_checkpoint):
    teacher = load_policy(tiny_checkpoint, Runtime())
    with torch.no_grad():
        teacher.model.get_output_embeddings().weight.mul_(1.5)
    names = ("generalized_jsd", "forward_kl", "reverse_kl")
    found = {
        beta: policy.token_statistics(ROWS, names, reference=teacher, temperature=2.0, jsd_beta=beta).values
        for beta in (0.0, 0.4, 1.0)
    }
    assert torch.equal(found[0.0]["generalized_jsd"], found[0.0]["forward_kl"])
    assert torch.equal(found[1.0]["generalized_jsd"], found[1.0]["reverse_kl"])
    assert (found[0.4]["generalized_jsd"] < torch.minimum(*[found[0.4][name] for name in names[1:]])).all()
    cold = policy.token_statistics(ROWS, names, reference=teacher, temperature=0.5, jsd_beta=0.4).values
    assert (cold["generalized_jsd"] > found[0.4]["generalized_jsd"]).all()


def test_the_reference_is_done_before_the_activations_of_the_policy_are_kept(policy, tiny_checkpoint, monkeypatch):
    other, order = load_policy(tiny_checkpoint, Runtime()), []
    plain = policy_module.hidden_states
    monkeypatch.setattr(
        policy_module,
        "hidden_states",
        lambda model, *rest: order.append((model, torch.is_grad_enabled())) or plain(model, *rest),
    )
    policy.head(), other.head()
    order.clear()
    policy.token_statistics(ROWS, ("forward_kl",), reference=other)
    assert order == [(other.model, False), (policy.model, True)]


@pytest.mark.parametrize("modules", ["all-linear", ("q_proj", "lm_head")])
def test_a_policy_with_an_adapter_is_compared_with_what_it_is_without_it(policy, tiny_checkpoint, modules):
    """Values and gradients are those with a copy of the base as the reference, also where the head has an adapter."""
    pytest.importorskip("peft")
    policy.model.config.tie_word_embeddings = False
    base = load_policy(tiny_checkpoint, Runtime())
    add_adapter(policy, SFTConfig(lora=LoRAConfig(r=4, target_modules=modules)), tiny_checkpoint)
    trained = {name: value for name, value in policy.model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    results = []
    for reference in (base, policy):
        found = policy.token_statistics(ROWS, ("forward_kl", "reference_logps"), reference=reference).values
        results.append((*found.values(), *torch.autograd.grad(found["forward_kl"].sum(), list(trained.values()))))
    assert float(results[0][0].detach().abs().min()) > 1e-6
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_reference_with_another_vocabulary_is_refused(policy, tiny_checkpoint):
    other = load_policy(tiny_checkpoint, Runtime())
    check_same_vocabulary(policy, other, "align.options.teacher")
    other.tokenizer.add_tokens(["<another>"])
    with pytest.raises(ModelError, match="different meanings: '<another>'"):
        check_same_vocabulary(policy, other, "align.options.teacher")
    other.model.resize_token_embeddings(other.model.config.vocab_size + 1)
    for refused in (
        lambda: check_same_vocabulary(policy, other, "align.options.teacher"),
        lambda: policy.token_statistics(ROWS, ("forward_kl",), reference=other),
    ):
        with pytest.raises(ModelError, match="cannot be compared"):
            refused()


@contextlib.contextmanager
def attention_of_transformers(*models):
    """The models as they were loaded."""
    for model in models:
        attention.uninstall(model)
    yield
    for model in models:
        attention.install(model)


def test_statistics_are_those_of_the_temperature(policy):
    hot, cold = (
        policy.token_statistics(ROWS, ("entropy",), temperature=value).values["entropy"] for value in (5.0, 0.2)
    )
    assert (hot > cold).all()


def test_the_most_probable_tokens_come_first(policy):
    found = policy.token_statistics(ROWS, ("logps", "correct", "top_logps", "top_ids"), top_k=3).values
    assert found["top_logps"].shape == found["top_ids"].shape == (len(found["logps"]), 3)
    assert (found["top_logps"].diff(dim=1) <= 0).all() and (found["top_logps"][:, 0] >= found["logps"]).all()


@pytest.mark.parametrize(
    ("which", "message"), [(("entropi",), "did you mean 'entropy'"), (("forward_kl",), "reference")]
)
def test_a_statistic_that_cannot_be_given_is_refused(policy, which, message):
    with pytest.raises(ModelError, match=message):
        policy.token_statistics(ROWS, which)


def test_a_head_that_is_not_understood_is_refused(tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime())
    policy.model.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)
    policy.model.lm_head.__class__ = type("Linear", (torch.nn.Linear,), {})  # no plain one: it goes through its module
    assert policy.token_statistics(ROWS).logps.shape == (12,)
    policy = load_policy(tiny_checkpoint, Runtime())
    policy.model.lm_head.register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(ModelError, match="alignflow does not know"):
        policy.token_statistics(ROWS)


def picks(policy, rows, names, step=0):
    uniform = uniform_numbers(names, [row.supervised for row in rows], seed=3, step=step)
    return policy.token_statistics(rows, ("logps", "cringe_positive"), top_k=4, uniform=uniform).values[
        "cringe_positive"
    ]


def test_positive_picks_are_those_of_the_row_whatever_its_neighbours_and_change_with_the_step(policy):
    alone, together = picks(policy, ROWS[:1], ["a"]), picks(policy, [ROWS[2], ROWS[0], ROWS[1]], ["c", "a", "b"])[1:4]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    steps = torch.stack([picks(policy, ROWS, list("abcd"), step) for step in range(8)])
    assert (steps.detach().std(0) > 0).any() and steps.requires_grad


@pytest.mark.parametrize("uniform", [None, torch.zeros(3, dtype=torch.float64)])
def test_a_statistic_that_draws_needs_a_number_for_each_token(policy, uniform):
    with pytest.raises(ModelError, match="needs 12 uniform numbers"):
        policy.token_statistics(ROWS, ("cringe_positive",), uniform=uniform)
