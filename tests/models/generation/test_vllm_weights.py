import json

import pytest
import torch
from adapter_support import make_adapter
from safetensors.torch import load_file
from tiny_model import make_checkpoint
from transformers import AutoModelForCausalLM

from alignflow.data.adapters import ADAPTER_CONFIG
from alignflow.data.errors import ModelError
from alignflow.models.adapters import from_pretrained
from alignflow.models.generation.vllm_weights import (
    chain_digest,
    lora_rank,
    merged_copy,
    root_of,
    what_to_load,
    write_live,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("base"))


def test_a_whole_model_is_loaded_as_it_is(base):
    found = what_to_load(base)
    assert (found.directory, found.adapter, found.rank, found.merged) == (base, None, 0, False)


def test_an_adapter_goes_beside_its_base_which_others_share(base, tmp_path):
    make_adapter(base, tmp_path / "a")
    found = what_to_load(tmp_path / "a")
    assert found.directory.resolve() == base.resolve() and found.digest == what_to_load(base).digest
    assert found.adapter[1] == str(tmp_path / "a") and found.rank == 8 and not found.merged


def test_an_adapter_on_an_adapter_is_merged_into_a_copy(base, tmp_path):
    make_adapter(base, tmp_path / "a")
    make_adapter(tmp_path / "a", tmp_path / "b", from_pretrained(AutoModelForCausalLM, tmp_path / "a", torch.float32))
    found = what_to_load(tmp_path / "b")
    assert found.merged and found.adapter is None and root_of(tmp_path / "b").resolve() == base.resolve()
    assert chain_digest(tmp_path / "b") != chain_digest(tmp_path / "a")
    copied = AutoModelForCausalLM.from_pretrained(merged_copy(tmp_path / "b", tmp_path / "copy"))
    wanted = from_pretrained(AutoModelForCausalLM, tmp_path / "b", torch.float32)
    for mine, theirs in zip(copied.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("changes", "rank"),
    [
        ({}, 8),
        ({"r": 9}, 16),
        ({"r": 512}, 512),
        ({"r": 513}, 0),
        ({"use_dora": True}, 0),
        ({"modules_to_save": ["score"]}, 0),
        ({"target_modules": ["embed_tokens"]}, 0),
        ({"target_modules": "all-linear"}, 0),
        ({"rank_pattern": {"q_proj": 2}}, 0),
        ({"bias": "all"}, 0),
        ({"peft_type": "LOHA"}, 0),
    ],
)
def test_what_vllm_cannot_have_beside_a_base_is_found_by_the_adapters_own_config(base, tmp_path, changes, rank):
    plain = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps({**plain, **changes}))
    assert lora_rank(tmp_path, base) == rank


def test_what_is_no_model_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no model: "):
        what_to_load("nobody/nothing")


def test_live_weights_are_written_as_a_checkpoint_has_them(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    write_live(model, tmp_path / "weights", torch.float32)
    written, wanted = load_file(tmp_path / "weights"), load_file(base / "model.safetensors")
    assert written.keys() == wanted.keys() and all(torch.equal(written[name], wanted[name]) for name in wanted)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o600


def test_the_adapter_of_a_model_in_training_is_merged_into_what_is_written(base, tmp_path):
    model = make_adapter(base, tmp_path / "a")
    write_live(model, tmp_path / "weights", torch.float32)
    wanted = from_pretrained(AutoModelForCausalLM, tmp_path / "a", torch.float32).state_dict()
    for name, values in load_file(tmp_path / "weights").items():
        torch.testing.assert_close(values, wanted[name])
