"""A model that is shared out is read and written tensor by tensor, and is the same model on disk."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.run import Runtime
from alignflow.models import checkpoints
from alignflow.models.batching import EncodedRow
from alignflow.models.checkpoints import plan_shards, save_checkpoint
from alignflow.models.engines import deepspeed_engine
from alignflow.models.engines.base import make_engine
from alignflow.models.engines.partitioned import is_partitioned
from alignflow.models.loading import tensor_files
from alignflow.models.policy import load_frozen, load_policy
from alignflow.models.reward_model import build_reward_model

ZERO3 = Runtime(engine="deepspeed", zero_stage=3)
ROWS = [EncodedRow((5, 6), (7, 8, 9)), EncodedRow((9,), (5, 4))]
CARD = {"A model": "For a test."}


@pytest.fixture(autouse=True)
def everything_is_shared_out(monkeypatch):
    monkeypatch.setattr(deepspeed_engine, "PERSISTENT", 0)
    yield
    torch.nn.functional.linear = deepspeed_engine._LINEAR


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


def test_a_policy_is_read_in_parts_and_written_as_the_same_bytes(tiny_checkpoint, tmp_path, new_run):
    from alignflow.data.configs.training import SFTConfig

    plain = load_policy(tiny_checkpoint, Runtime())
    save_checkpoint(plain.model, plain.tokenizer, new_run("plain").out, CARD)
    expected = plain.token_statistics(ROWS).logps

    shared = load_policy(tiny_checkpoint, ZERO3, trainable=True)
    assert all(is_partitioned(parameter) for parameter in shared.model.parameters())
    engine = make_engine(shared.model, SFTConfig(), ZERO3)
    with torch.no_grad():
        torch.testing.assert_close(shared.token_statistics(ROWS).logps, expected, atol=1e-6, rtol=0)
    save_checkpoint(shared.model, shared.tokenizer, new_run("shared").out, CARD)
    engine.close()
    assert digests(new_run("plain").out) == digests(new_run("shared").out)


def test_a_model_over_the_size_of_a_file_is_several_files_that_transformers_reads(
    tiny_checkpoint, new_run, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 30_000)
    shared = load_policy(tiny_checkpoint, ZERO3, trainable=True)
    save_checkpoint(shared.model, shared.tokenizer, new_run().out, CARD)
    assert (
        len(list(new_run().out.glob("model-*-of-*.safetensors"))) == len(set(tensor_files(new_run().out).values())) > 1
    )
    again, plain = (
        AutoModelForCausalLM.from_pretrained(new_run().out),
        AutoModelForCausalLM.from_pretrained(tiny_checkpoint),
    )
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in again.state_dict().items())
    reread = load_policy(new_run().out, ZERO3, trainable=True)
    save_checkpoint(reread.model, reread.tokenizer, new_run("second").out, CARD)
    assert digests(new_run("second").out) == digests(new_run().out)


def test_a_reward_head_starts_the_same_when_it_is_shared_out(tiny_checkpoint, new_run):
    for name, runtime in (("plain", Runtime(engine="torch")), ("shared", ZERO3)):
        reward = build_reward_model(tiny_checkpoint, runtime)
        save_checkpoint(reward.model, reward.tokenizer, new_run(name).out, CARD)
    assert digests(new_run("plain").out) == digests(new_run("shared").out)


def test_a_model_that_nobody_trains_is_loaded_whole(tiny_checkpoint):
    assert not any(is_partitioned(parameter) for parameter in load_policy(tiny_checkpoint, ZERO3).model.parameters())


def test_a_frozen_model_runs_in_parts(tiny_checkpoint):
    frozen, plain = load_frozen(tiny_checkpoint, ZERO3, in_parts=True), load_policy(tiny_checkpoint, Runtime())
    assert all(is_partitioned(parameter) and not parameter.requires_grad for parameter in frozen.model.parameters())
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(
                frozen.token_statistics(ROWS).logps, plain.token_statistics(ROWS).logps, atol=1e-6, rtol=0
            )
    absent = [
        name for name, parameter in frozen.model.named_parameters() if parameter.ds_status.name == "NOT_AVAILABLE"
    ]
    assert "model.layers.0.mlp.up_proj.weight" in absent, "let go again"


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 120))
def test_a_plan_of_files_holds_every_tensor_once_in_order_and_no_file_is_over_the_limit(sizes, limit):
    named = {f"t{number}": size for number, size in enumerate(sizes)}
    files = plan_shards(named, limit)
    assert [name for names in files.values() for name in names] == list(named)
    assert all(sum(named[name] for name in names) <= limit or len(names) == 1 for names in files.values())
    assert (list(files) == ["model.safetensors"]) == (len(files) == 1)
