"""Frozen matrices are kept in bf16 where autocast would round them anyway, and every number stays what it was, bit for bit."""

import pytest
import torch
from tiny_model import make_checkpoint, make_reward_model

from alignflow.data.configs.training import LoRAConfig, RewardConfig, SFTConfig
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models import policy as policies
from alignflow.models.batching import EncodedRow
from alignflow.models.checkpoints import save_checkpoint
from alignflow.models.engines.base import make_engine
from alignflow.models.frozen_weights import FrozenLinear, keep_in_bf16
from alignflow.models.policy import load_frozen, load_learner, load_policy
from alignflow.models.reward_model import build_reward_model, load_reward_model, save_reward_model

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1)), EncodedRow((4,), (7, 8, 9, 10, 11, 1))]
BF16, FP32 = Runtime(precision="bf16", engine="torch"), Runtime(precision="fp32", engine="torch")
LORA = SFTConfig(lora=LoRAConfig(r=4), learning_rate=1e-2)


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    """A model with a head of its own, which an adapter leaves frozen."""
    root = tmp_path_factory.mktemp("untied")
    plain = load_policy(make_checkpoint(root), FP32)
    head = plain.model.lm_head.weight.detach().clone()
    plain.model.config.tie_word_embeddings = False
    plain.model.lm_head.weight = torch.nn.Parameter(head + 0.01)
    save_checkpoint(plain.model, plain.tokenizer, root / "untied", {"A model": "with a head of its own"})
    return root / "untied"


def frozen_layers(model):
    return [name for name, module in model.named_modules() if isinstance(module, FrozenLinear)]


def trained(path, engine, steps=2):
    """Losses, log-probabilities and what was learnt after some steps of an adapter."""
    runtime = BF16.model_copy(update={"engine": engine})
    policy = load_learner(path, LORA, runtime)
    engine, losses = make_engine(policy.model, LORA, runtime), []
    for _ in range(steps):
        loss = -policy.token_statistics(ROWS).logps.mean()
        engine.backward(loss)
        losses.append(engine.step(1e-2))
    engine.close()
    learnt = {name: value.detach().clone() for name, value in policy.model.named_parameters() if value.requires_grad}
    with torch.no_grad(), policy.adapter.off():
        reference = policy.token_statistics(ROWS).logps
    return losses, policy.token_statistics(ROWS).logps.detach(), reference, learnt, frozen_layers(policy.model)


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_an_adapter_learns_the_same_on_a_base_in_bf16(untied, engine, monkeypatch):
    small = trained(untied, engine)
    monkeypatch.setattr(policies, "keep_in_bf16", lambda *given: 0)
    large = trained(untied, engine)
    assert small[4] and not large[4]
    assert small[0] == large[0]
    assert torch.equal(small[1], large[1]) and torch.equal(small[2], large[2])
    assert not torch.equal(small[1], small[2]), "the adapter learnt something"
    assert all(torch.equal(value, large[3][name]) for name, value in small[3].items())
    assert all(value.dtype == torch.float32 for value in small[3].values())


def test_a_reference_says_the_same_in_bf16(untied):
    small, large = load_frozen(untied, BF16), load_policy(untied, BF16)
    assert "lm_head" in frozen_layers(small.model) and not frozen_layers(large.model)
    with torch.no_grad():
        assert torch.equal(small.token_statistics(ROWS).logps, large.token_statistics(ROWS).logps)


def test_a_reward_model_scores_the_same_in_bf16_and_keeps_its_head(untied, tmp_path):
    rows = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False)]
    path = tmp_path / "reward"
    path.mkdir()
    save_reward_model(make_reward_model(untied), path, rows, {"A reward model": "of a test"})
    small, large = load_reward_model(path, BF16, compute_only=True), load_reward_model(path, BF16)
    assert frozen_layers(small.model) and "score" not in frozen_layers(small.model)
    assert small.score(rows) == large.score(rows)


def test_a_reward_model_under_an_adapter_learns_its_head_in_fp32(untied):
    reward = build_reward_model(untied, BF16, RewardConfig(lora=LoRAConfig(r=4)))
    assert frozen_layers(reward.model)
    learning = {name: value.dtype for name, value in reward.model.named_parameters() if value.requires_grad}
    assert any("score" in name for name in learning) and set(learning.values()) == {torch.float32}


def test_a_tied_head_and_embeddings_and_norms_stay_in_fp32(tiny_checkpoint):
    model = load_frozen(tiny_checkpoint, BF16).model
    kept = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
    assert "model.embed_tokens.weight" in kept and all("norm" in name or "embed" in name for name in kept)
    assert "lm_head" not in frozen_layers(model)


def test_nothing_is_converted_that_learns_or_where_products_are_fp32(untied):
    assert not frozen_layers(load_learner(untied, SFTConfig(), BF16).model), "all weights learn"
    assert not frozen_layers(load_frozen(untied, FP32).model)
    assert keep_in_bf16(load_policy(untied, BF16, trainable=True).model, BF16) == 0


def test_the_count_is_that_of_the_matrices(untied):
    model = load_policy(untied, BF16).model
    matrices = (
        sum(value.numel() for value in model.parameters() if value.ndim == 2) - model.model.embed_tokens.weight.numel()
    )
    assert keep_in_bf16(model, BF16) == matrices


def test_without_autocast_it_multiplies_in_the_dtype_of_its_input():
    module = FrozenLinear(3, 2)
    module.weight = torch.nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    module.bias = torch.nn.Parameter(module.bias.detach().bfloat16(), requires_grad=False)
    states = torch.randn(4, 3)
    torch.testing.assert_close(module(states), states @ module.weight.float().T + module.bias.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(states).dtype == torch.bfloat16
