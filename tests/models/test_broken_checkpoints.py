"""A checkpoint that lacks tensors of its model, or has others, is refused by name: transformers would draw them at random."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignflow.data.configs.inputs import AdoptConfig, InitConfig
from alignflow.data.configs.training import LoRAConfig
from alignflow.data.errors import ModelError
from alignflow.data.run import Runtime
from alignflow.models.adapters import Adapter
from alignflow.models.adopt import adopt_reward_model
from alignflow.models.engines import deepspeed_engine
from alignflow.models.initialise import initialise
from alignflow.models.policy import load_policy
from alignflow.models.reward_model import build_reward_model, load_reward_model


@pytest.fixture(autouse=True)
def shared_out(monkeypatch):
    monkeypatch.setattr(deepspeed_engine, "PERSISTENT", 0)
    yield
    torch.nn.functional.linear = deepspeed_engine._LINEAR


@pytest.fixture
def variant(tiny_checkpoint, tmp_path):
    """Write a copy of the tiny model with changed tensors and config; untied, so that it has a head of its own."""

    def write(change=lambda tensors: tensors, **config):
        out = tmp_path / "variant"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tiny_checkpoint, out)
        tensors = load_file(out / "model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(change(tensors), out / "model.safetensors", metadata={"format": "pt"})
        known = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps({**known, "tie_word_embeddings": False, **config}))
        return out

    return write


def prefixed(prefix):
    return lambda tensors: {prefix + name: value for name, value in tensors.items()}


def without(part):
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


BROKEN = {
    "no head": (without("lm_head"), {}, "1 missing .lm_head.weight.(.|\n)*tie_word_embeddings"),
    "no layer": (without(".layers.1."), {}, "9 missing (.|\n)*config.json has 2 layers, and layers 1 are incomplete"),
    "one tensor": (without("layers.0.mlp.up_proj"), {}, "model.layers.0.mlp.up_proj.weight"),
    "data parallel": (prefixed("module."), {}, "'module.', which torch's DistributedDataParallel"),
    "compiled": (prefixed("_orig_mod."), {}, "'_orig_mod.', which torch.compile adds"),
    "peft": (prefixed("base_model.model."), {}, "'base_model.model.', which peft adds"),
    "a reward model": (lambda tensors: {**tensors, "score.weight": torch.zeros(1, 32)}, {}, "this is a reward model"),
    "too many layers": (lambda tensors: tensors, {"num_hidden_layers": 1}, "9 unexpected .model.layers.1"),
    "other shapes": (
        lambda tensors: tensors,
        {"intermediate_size": 48},
        r"mlp.down_proj.weight is \(32, 64\), not \(32, 48\)",
    ),
    "not finite": (
        lambda tensors: {**tensors, "model.norm.weight": tensors["model.norm.weight"] * float("nan")},
        {},
        r"1 tensors have weights that are NaN or infinite \(model.norm.weight\)",
    ),
    "infinite": (
        lambda tensors: {
            **tensors,
            "lm_head.weight": tensors["lm_head.weight"].index_fill(0, torch.tensor(3), float("inf")),
        },
        {},
        "lm_head.weight",
    ),
    "tied and not": (
        lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1},
        {"tie_word_embeddings": True},
        "config.json ties embeddings and head",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_init_refuses_it_by_name_and_says_the_likely_cause(case, variant, new_run):
    change, config, message = BROKEN[case]
    with pytest.raises(ModelError, match=message):
        initialise(InitConfig(path=str(variant(change, **config))), run=new_run())


def test_the_model_as_it_was_is_taken(variant, new_run):
    initialise(InitConfig(path=str(variant())), run=new_run())


def test_a_tied_head_that_is_stored_as_well_is_taken(variant, new_run):
    initialise(InitConfig(path=str(variant(tie_word_embeddings=True))), run=new_run())


BUFFERS = {
    "rotary positions of an early Llama": ("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(8)),
    "masks of an early GPT": ("transformer.h.0.attn.masked_bias", torch.tensor(-1e4)),
}


@pytest.mark.parametrize("case", BUFFERS)
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_a_buffer_that_is_computed_anew_is_not_missed_and_not_unexpected(case, zero_stage, variant):
    name, values = BUFFERS[case]
    runtime = Runtime(engine="deepspeed", zero_stage=3) if zero_stage else Runtime()
    load_policy(variant(lambda tensors: {**tensors, name: values}), runtime, trainable=True)


def test_a_tied_model_with_another_head_is_refused_under_zero_3_too(variant):
    path = variant(*BROKEN["tied and not"][:1], tie_word_embeddings=True)
    with pytest.raises(ModelError, match="ties embeddings and head"):
        load_policy(path, Runtime(engine="deepspeed", zero_stage=3), trainable=True)


def test_memory_that_runs_out_is_not_taken_for_a_wrong_config(tiny_checkpoint, monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        load_policy(tiny_checkpoint, Runtime())


@pytest.mark.parametrize("case", ["no layer", "data parallel", "one tensor"])
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_a_policy_and_a_fresh_reward_model_refuse_it_too(case, zero_stage, variant):
    change, config, _ = BROKEN[case]
    path = variant(change, **config)
    runtime = Runtime(engine="deepspeed", zero_stage=3) if zero_stage else Runtime()
    for load in (lambda: load_policy(path, runtime, trainable=True), lambda: build_reward_model(path, runtime)):
        with pytest.raises(ModelError):
            load()


@pytest.mark.parametrize("case", ["no layer", "data parallel", "not finite"])
def test_an_adopted_reward_model_is_refused(case, tiny_checkpoint, tmp_path, new_run):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, num_labels=1)
    model.config.pad_token_id = 0
    model.save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "reward")
    load_reward_model(tmp_path / "reward", Runtime())
    tensors = load_file(tmp_path / "reward" / "model.safetensors")
    save_file(BROKEN[case][0](tensors), tmp_path / "reward" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError):
        adopt_reward_model(AdoptConfig(path=str(tmp_path / "reward")), run=new_run())


def test_a_causal_model_is_no_reward_model(tiny_checkpoint):
    with pytest.raises(ModelError, match="use a trained reward model"):
        load_reward_model(tiny_checkpoint, Runtime())


def test_a_token_id_beyond_the_embeddings_is_refused(variant, new_run):
    path = variant()
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(path)
    with pytest.raises(ModelError, match="<extra>"):
        initialise(InitConfig(path=str(path)), run=new_run())


def test_every_name_of_lora_targets_must_match(tiny_checkpoint):
    pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    with pytest.raises(ModelError, match=r"no module is called query(.|\n)*q_proj"):
        Adapter(model, LoRAConfig(target_modules=("q_proj", "query")), tiny_checkpoint, 0)
