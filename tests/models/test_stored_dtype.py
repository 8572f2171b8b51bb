"""The weights of a stored model in another dtype: every tensor, config, index and check rows agree, and every loader takes the result."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import make_reward_model
from transformers import AutoModelForCausalLM

from alignflow.data.records import user
from alignflow.data.run import Runtime
from alignflow.models import checkpoints
from alignflow.models.batching import EncodedRow
from alignflow.models.checkpoints import save_checkpoint
from alignflow.models.export import export
from alignflow.models.policy import load_policy
from alignflow.models.reward_model import load_reward_model, save_reward_model
from alignflow.models.stored_dtype import convert

ROWS = [EncodedRow((4, 9, 20), (30, 31, 1))]


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def test_a_model_in_bf16_takes_half_the_space_and_is_rounded_once(copy, tiny_checkpoint):
    convert(copy, "bf16")
    before, after = (load_file(place / "model.safetensors") for place in (tiny_checkpoint, copy))
    assert all(torch.equal(value.bfloat16(), after[name]) for name, value in before.items())
    assert json.loads((copy / "config.json").read_text())["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(copy)
    assert model.dtype == torch.bfloat16
    policy, plain = load_policy(copy, Runtime()), load_policy(tiny_checkpoint, Runtime())
    assert next(policy.model.parameters()).dtype == torch.float32
    torch.testing.assert_close(
        policy.token_statistics(ROWS).logps, plain.token_statistics(ROWS).logps, atol=0.05, rtol=0
    )


def test_back_to_fp32_keeps_the_rounded_numbers(copy):
    convert(copy, "bf16")
    rounded = load_file(copy / "model.safetensors")
    convert(copy, "fp32")
    assert all(
        torch.equal(value, rounded[name].float()) for name, value in load_file(copy / "model.safetensors").items()
    )


def test_the_index_of_several_files_tells_the_new_size(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 40_000)
    plain = load_policy(tiny_checkpoint, Runtime())
    (tmp_path / "shards").mkdir()
    save_checkpoint(plain.model, plain.tokenizer, tmp_path / "shards", {"A model": "in several files"})
    index = tmp_path / "shards" / "model.safetensors.index.json"
    before = json.loads(index.read_text())["metadata"]["total_size"]
    convert(tmp_path / "shards", "bf16")
    assert json.loads(index.read_text())["metadata"]["total_size"] == before // 2
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "shards").dtype == torch.bfloat16


def test_a_reward_model_in_bf16_passes_its_own_check(tiny_checkpoint, tmp_path):
    rows = [(user("the cat"), "sat on the mat", True), (user("a dog"), "ran", False)]
    made = make_reward_model(tiny_checkpoint)
    (tmp_path / "reward").mkdir()
    save_reward_model(made, tmp_path / "reward", rows, {"A reward model": "of a test"})
    before = made.score(rows)
    export(tmp_path / "reward", tmp_path / "out", dtype="bf16")
    loaded = load_reward_model(tmp_path / "out", Runtime())
    assert loaded.score(rows) != before and loaded.score(rows) == pytest.approx(before, abs=0.05)


def test_a_directory_without_weights_stays_as_it_is(tmp_path):
    (tmp_path / "ensemble.json").write_text("{}")
    convert(tmp_path, "bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.json"]
