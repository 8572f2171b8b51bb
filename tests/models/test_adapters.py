"""An adapter trains alone, can be switched off, and is merged wherever a model is loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("peft")

import peft
from tiny_model import make_reward_model

from alignflow.data.artifacts import payload_files
from alignflow.data.configs.training import LoRAConfig, RewardConfig, SFTConfig
from alignflow.data.errors import ModelError
from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models.adapters import add_adapter, save_model
from alignflow.models.batching import EncodedRow
from alignflow.models.engines.base import ENGINES, make_engine
from alignflow.models.export import export
from alignflow.models.generation.base import Sampling, make_generator
from alignflow.models.policy import load_policy
from alignflow.models.recompute import recompute_layers
from alignflow.models.reward_model import load_reward_model, save_reward_model

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1)), EncodedRow((4,), (7, 8, 9, 10, 11, 1))]
SCORED = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False)]


def config(kind=SFTConfig, **fields):
    return kind(lora=LoRAConfig(**{"r": 4, **fields}))


def disturb(holder, seed=0):
    """Set the second factors, as training would, so that the adapter has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in holder.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)


def logps(policy):
    with torch.no_grad():
        return policy.token_statistics(ROWS).logps


@pytest.fixture
def adapted(tiny_checkpoint, new_run):
    """Make a trained adapter on a base; returns the policy in memory and the directory."""

    def make(name="adapter", base=tiny_checkpoint, seed=0, **fields):
        policy = load_policy(base, Runtime(), trainable=True)
        add_adapter(policy, config(**fields), base)
        disturb(policy, seed)
        out = new_run(name).out
        save_model(policy, out, {"Adapter": "for a test"})
        return policy, out

    return make


def test_a_fresh_adapter_changes_nothing_and_trains_alone(tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    before = logps(policy)
    add_adapter(policy, config(), tiny_checkpoint)
    assert torch.equal(logps(policy), before)
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained) and not any("lm_head" in name for name in trained)


def test_without_a_lora_section_all_weights_train(tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    add_adapter(policy, SFTConfig(), tiny_checkpoint)
    assert policy.adapter is None and all(parameter.requires_grad for parameter in policy.model.parameters())


def test_the_first_weights_are_drawn_from_the_seed(tiny_checkpoint):
    def first(seed):
        policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
        add_adapter(policy, config().model_copy(update={"seed": seed}), tiny_checkpoint)
        return next(parameter for name, parameter in policy.model.named_parameters() if "lora_A" in name)

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


def test_switched_off_the_model_is_its_base_bit_for_bit(adapted, tiny_checkpoint):
    policy, _ = adapted()
    base = logps(load_policy(tiny_checkpoint, Runtime()))
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    on = logps(policy)
    with policy.adapter.off():
        assert torch.equal(logps(policy), base)
    assert torch.equal(logps(policy), on) and (on - base).abs().max() > 0.01
    assert {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad} == trained


def test_an_artifact_is_the_adapter_alone_and_names_no_place(adapted, tiny_checkpoint):
    _, out = adapted()
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert set(payload_files(out)) == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "base.json",
        "README.md",
        *tokenizer,
    }
    assert not any(
        str(tiny_checkpoint) in (out / name).read_text()
        for name in payload_files(out)
        if not name.endswith("safetensors")
    )
    assert "base_model_name_or_path" not in json.loads((out / "adapter_config.json").read_text())


def test_it_is_merged_where_a_policy_is_loaded(adapted, tiny_checkpoint):
    policy, out = adapted()
    loaded = load_policy(out, Runtime())
    torch.testing.assert_close(logps(loaded), logps(policy), atol=1e-5, rtol=1e-5)
    plain = load_policy(tiny_checkpoint, Runtime())
    assert [name for name, _ in loaded.model.named_parameters()] == [name for name, _ in plain.model.named_parameters()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_merged_where_a_generator_is_loaded(precision, adapted, new_run):
    from alignflow.models.checkpoints import save_checkpoint

    _, out = adapted()
    loaded, merged = load_policy(out, Runtime()), new_run("merged").out
    save_checkpoint(loaded.model, loaded.tokenizer, merged, {"Merged": "for a test"})
    whole, adapter = (make_generator(path, Runtime(precision=precision)) for path in (merged, out))
    assert adapter.generate([(4, 9, 20)] * 2, Sampling(8), [1, 2]) == whole.generate(
        [(4, 9, 20)] * 2, Sampling(8), [1, 2]
    )
    assert adapter.score_options([(4, 9)], [7, 8]) == whole.score_options([(4, 9)], [7, 8])
    assert adapter.context_length == whole.context_length


def test_an_adapter_on_an_adapter_is_merged_in_turn_and_switched_off_is_the_lower_one(adapted):
    _, lower = adapted("lower")
    before = logps(load_policy(lower, Runtime()))
    upper, out = adapted("upper", base=lower, seed=1)
    with upper.adapter.off():
        assert torch.equal(logps(upper), before)
    torch.testing.assert_close(logps(load_policy(out, Runtime())), logps(upper), atol=1e-5, rtol=1e-5)


def test_a_changed_base_is_refused(adapted, tiny_checkpoint, tmp_path):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    _, out = adapted(base=base)
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: value * 2 for name, value in weights.items()}, base / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ModelError, match="its base checkpoint has changed"):
        load_policy(out, Runtime())


def test_an_adapter_that_does_not_fit_its_base_is_refused(adapted):
    _, out = adapted()
    weights = load_file(out / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, out / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not fit its base"):
        load_policy(out, Runtime())


IDS = torch.tensor([[4, 9, 320, 30, 322, 321]])  # three of them are tokens that were added


def with_added_tokens(checkpoint, out=None):
    """Model and tokenizer of the checkpoint with three more tokens and rows of embeddings for them; written to `out`."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    torch.manual_seed(0)
    assert tokenizer.add_tokens(["<one>", "<two>", "<three>"]) == 3 and model.config.tie_word_embeddings
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer) if out else ():
        part.save_pretrained(out)
    return model, tokenizer


def logits_of(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("modules", [{}, {"target_modules": ("q_proj", "v_proj")}])
def test_a_tied_model_with_added_tokens_has_the_same_logits_after_its_adapter_was_merged_and_reloaded(
    modules, adapted, tiny_checkpoint, tmp_path
):
    with_added_tokens(tiny_checkpoint, tmp_path / "base")
    policy, out = adapted(base=tmp_path / "base", **modules)
    rows = [EncodedRow(tuple(IDS[0, :2].tolist()), tuple(IDS[0, 2:].tolist()))]
    with torch.no_grad():
        expected = policy.token_statistics(rows).logps
    export(out, tmp_path / "merged")
    merged, base = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("merged", "base"))
    assert merged.lm_head.weight is merged.model.embed_tokens.weight and merged.config.vocab_size == 323
    assert (
        torch.equal(merged.lm_head.weight, base.lm_head.weight)
        and (logits_of(merged) - logits_of(base)).abs().max() > 0.01
    )
    found = logits_of(merged).log_softmax(-1)[0, 1:-1].gather(-1, IDS[0, 2:, None])[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    generators = [make_generator(path, Runtime()) for path in (out, tmp_path / "merged")]
    answers = [generator.generate([(4, 9, 321)] * 4, Sampling(12), [1, 2, 3, 4]) for generator in generators]
    assert answers[0] == answers[1] and len({token for answer in answers[1] for token in answer.ids}) > 4, (
        "no token is repeated for ever"
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("<two>")["input_ids"] == [321]


@pytest.mark.parametrize("trained", [("embed_tokens",), ("lm_head",), ("embed_tokens", "lm_head")])
def test_somebody_elses_adapter_that_trained_one_of_two_tied_matrices_is_merged_into_a_model_with_two(
    trained, tiny_checkpoint, tmp_path
):
    """Written with `tie_word_embeddings: true`, one of the two would be lost when the model is loaded again."""
    with_added_tokens(tiny_checkpoint, tmp_path / "base")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=list(trained), task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 10)
    wrapped.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    wrapped.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits_of(merged), logits_of(wrapped), atol=1e-5, rtol=1e-5)
    assert (
        not torch.equal(merged.lm_head.weight, merged.model.embed_tokens.weight)
        and not merged.config.tie_word_embeddings
    )


def test_an_adapter_with_embeddings_of_added_tokens_is_refused_on_a_base_without_them(tiny_checkpoint, tmp_path):
    model, tokenizer = with_added_tokens(tiny_checkpoint)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    wrapped.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"does not fit its base: .*embed_tokens.*323"):
        load_policy(tmp_path / "adapter", Runtime())


def test_modules_can_be_named_and_unknown_ones_are_refused(adapted, tiny_checkpoint):
    policy, _ = adapted(target_modules=("q_proj",))
    assert all("q_proj" in name for name, parameter in policy.model.named_parameters() if parameter.requires_grad)
    with pytest.raises(ModelError, match="no adapter fits"):
        adapted("wrong", target_modules=("nothing",))


def test_dropout_acts_where_gradients_are_taken_alone(adapted):
    policy, out = adapted(lora_dropout=0.5)
    assert torch.equal(logps(policy), logps(policy))
    torch.testing.assert_close(logps(load_policy(out, Runtime())), logps(policy), atol=1e-5, rtol=1e-5)
    assert not torch.equal(policy.token_statistics(ROWS).logps, policy.token_statistics(ROWS).logps)


def test_gradients_with_dropout_are_equal_under_gradient_checkpointing(adapted):
    policy, _ = adapted(lora_dropout=0.5)
    found = []
    for _ in range(2):
        policy.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        policy.token_statistics(ROWS).logps.sum().backward()
        found.append(
            {name: parameter.grad for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
        )
        recompute_layers(policy.model)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize("engine", list(ENGINES))
def test_every_engine_moves_the_adapter_and_nothing_else(engine, tiny_checkpoint):
    policy = load_policy(tiny_checkpoint, Runtime(), trainable=True)
    add_adapter(policy, config(), tiny_checkpoint)
    before = {name: parameter.detach().clone() for name, parameter in policy.model.named_parameters()}
    made = make_engine(policy.model, config(), Runtime(engine=engine))
    for _ in range(2):  # the first factor moves once the second one is not 0
        made.backward(-policy.token_statistics(ROWS).logps.sum())
        made.step(1e-2)
    assert {name.removeprefix("weights/") for name in made.parts() if name.startswith("weights/")} == {
        name for name in before if "lora_" in name
    }
    made.close()
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name]) is ("lora_" not in name), name


@pytest.fixture
def untied(tiny_checkpoint, tmp_path):
    """The tiny checkpoint with a head of its own."""
    policy = load_policy(tiny_checkpoint, Runtime())
    policy.model.config.tie_word_embeddings = False
    policy.model.lm_head.weight = torch.nn.Parameter(policy.model.lm_head.weight.clone())
    policy.model.save_pretrained(tmp_path / "untied")
    policy.tokenizer.save_pretrained(tmp_path / "untied")
    return tmp_path / "untied"


@pytest.fixture
def reward(tiny_checkpoint, new_run):
    made = make_reward_model(tiny_checkpoint, 3)
    add_adapter(made, config(RewardConfig), tiny_checkpoint)
    disturb(made)
    return made


def test_a_reward_models_head_trains_in_full_and_reloads_with_the_adapter(reward, new_run):
    heads = [
        name for name, parameter in reward.model.named_parameters() if parameter.requires_grad and "lora_" not in name
    ]
    assert heads == ["score.modules_to_save.default.weight"]
    with torch.no_grad():
        reward.model.get_parameter(heads[0]).mul_(3)
    out = new_run("reward").out
    save_reward_model(reward, out, SCORED, {"Reward model": "for a test"})
    loaded = load_reward_model(out, Runtime())  # which scores the check rows again
    assert loaded.score(SCORED) == pytest.approx(reward.score(SCORED), abs=1e-5)
    assert loaded.model.config.pad_token_id == reward.model.config.pad_token_id


def test_a_policys_adapter_is_no_reward_model(adapted):
    with pytest.raises(ModelError, match="fresh"):
        load_reward_model(adapted()[1], Runtime())


def test_tied_weights_can_have_no_adapter(adapted):
    with pytest.raises(ModelError, match="share their weights"):
        adapted(target_modules=("q_proj", "lm_head"))


def test_a_reward_model_may_stand_on_a_policys_adapter(adapted, new_run, untied):
    _, base = adapted(base=untied, target_modules=("q_proj", "lm_head"))  # the backbone has no place for the head's
    made = make_reward_model(base, 3)
    add_adapter(made, config(RewardConfig), base)
    disturb(made, 1)
    out = new_run("reward").out
    save_reward_model(made, out, SCORED, {"Reward model": "for a test"})
    assert load_reward_model(out, Runtime()).score(SCORED) == pytest.approx(made.score(SCORED), abs=1e-5)


def test_without_peft_the_error_says_what_to_install(tiny_checkpoint, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ModelError, match=r"alignflow\[lora\]"):
        add_adapter(load_policy(tiny_checkpoint, Runtime(), trainable=True), config(), tiny_checkpoint)
