"""The number of weights of a shape is exactly that of the real model."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from alignflow.data.configs.inputs import BuildConfig
from alignflow.data.estimate.shapes import FAMILIES, ModelShape, built_shape, read_shape, shape_of

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CHANGES = (
    {},
    {"attention_bias": True, "mlp_bias": True},
    {"tie_word_embeddings": False},
    {"tie_word_embeddings": True},
    {"head_dim": 24},
)

LLAMA = {"model_type": "llama", "tie_word_embeddings": False}
QWEN = {"model_type": "qwen2", "tie_word_embeddings": False}


def sizes(hidden, layers, heads, keys, inner, vocabulary):
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
    }


KNOWN = [  # public configs, and the counts that their authors publish with the weights
    ("Llama 3.2 1B", {**LLAMA, "tie_word_embeddings": True, **sizes(2048, 16, 32, 8, 8192, 128256)}, 1_235_814_400),
    ("Llama 3.2 3B", {**LLAMA, "tie_word_embeddings": True, **sizes(3072, 28, 24, 8, 8192, 128256)}, 3_212_749_824),
    ("Llama 2 7B", {**LLAMA, **sizes(4096, 32, 32, 32, 11008, 32000)}, 6_738_415_616),
    ("Llama 3.1 8B", {**LLAMA, **sizes(4096, 32, 32, 8, 14336, 128256)}, 8_030_261_248),
    ("Qwen2.5 14B", {**QWEN, **sizes(5120, 48, 40, 8, 13824, 152064)}, 14_770_033_664),
    ("Qwen2.5 32B", {**QWEN, **sizes(5120, 64, 40, 8, 27648, 152064)}, 32_763_876_352),
    ("Llama 3.1 70B", {**LLAMA, **sizes(8192, 80, 64, 8, 28672, 128256)}, 70_553_706_496),
    ("stories3M", {**LLAMA, "tie_word_embeddings": True, **sizes(192, 6, 6, 2, 512, 4096)}, 3_148_224),
    ("stories260K", {**LLAMA, "tie_word_embeddings": True, **sizes(64, 5, 8, 4, 172, 512)}, 260_032),
    ("babyllama-char105", {**LLAMA, "tie_word_embeddings": True, **sizes(128, 5, 8, 4, 352, 105)}, 936_448),
]


@pytest.mark.parametrize(("name", "config", "parameters"), KNOWN, ids=[case[0] for case in KNOWN])
def test_known_models(name, config, parameters):
    assert shape_of(config).parameters == parameters


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_counts_what_transformers_builds(family, change):
    config = AutoConfig.for_model(family, **SIZES, **change)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(json.loads(config.to_json_string()))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    linear = [module for module in model.base_model.modules() if isinstance(module, torch.nn.Linear)]
    assert shape.layer_matrices == sum(module.weight.numel() for module in linear)
    assert shape.lora_parameters(8) == sum(8 * (module.in_features + module.out_features) for module in linear)


def test_a_reward_model_has_one_row_in_place_of_the_head():
    config = AutoConfig.for_model("llama", **SIZES, num_labels=1)
    with torch.device("meta"):
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_config(config)
    assert shape_of(json.loads(config.to_json_string())).scoring_parameters == sum(
        parameter.numel() for parameter in model.parameters()
    )


def test_the_real_weights_that_are_at_hand(repository):
    folder = repository.parent / "shared" / "weights"
    found = list(folder.glob("*/model.safetensors"))
    if not found:
        pytest.skip("needs ../shared/weights")
    for path in found:
        with safe_open(path, "pt") as file:
            count = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
        assert read_shape(path.parent).parameters == count


def test_a_built_model_has_the_shape_that_the_recipe_asks_for():
    build = BuildConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=300,
    )
    same = {**SIZES, "vocab_size": 300, "max_position_embeddings": build.max_position_embeddings}
    config = AutoConfig.for_model("llama", **same, tie_word_embeddings=True)
    assert built_shape(build) == shape_of(json.loads(config.to_json_string()))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model_type": "mamba"},
        {"model_type": "llama"},
        {**LLAMA, **SIZES, "quantization_config": {"bits": 4}},
        {**LLAMA, **SIZES, "hidden_size": "wide"},
    ],
)
def test_what_is_not_known_has_no_shape(content):
    assert shape_of(content) is None


def test_a_shape_is_read_from_a_directory_and_never_fetched(tmp_path, monkeypatch):
    assert read_shape(tmp_path) is None and read_shape("nobody/nothing") is None and read_shape("./nowhere") is None
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **SIZES}))
    assert isinstance(read_shape(tmp_path), ModelShape)
    (tmp_path / "config.json").write_text("{broken")
    assert read_shape(tmp_path) is None


def test_a_model_in_the_hub_cache_is_known(tmp_path, monkeypatch):
    import huggingface_hub

    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **SIZES}))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file, revision: str(tmp_path / file))
    assert read_shape("someone/model").hidden_size == 64


@pytest.mark.parametrize(
    ("said", "stored"),
    [({"dtype": "bfloat16"}, 2), ({"torch_dtype": "bfloat16"}, 2), ({"dtype": "float32"}, 4), ({}, 4)],
)
def test_a_base_in_bf16_takes_two_bytes_for_each_weight(said, stored):
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    assert shape_of({**config, **said}).stored_bytes == stored
