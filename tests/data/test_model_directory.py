"""A directory that is no model is refused by what it lacks, without torch."""

import json
import subprocess
import sys

import pytest
from model_directory_support import write_model_directory, write_weights

from alignflow.data.errors import ModelError
from alignflow.data.model_directory import check_model_directory


@pytest.fixture
def whole(tmp_path):
    return write_model_directory(tmp_path)


def test_a_whole_one_passes(whole):
    check_model_directory(whole)


def shards(path):
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    )
    write_weights(path / "model-1.safetensors")


def pickled(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def outside(path):
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))


def nested(path):
    (path / "checkpoint-5").mkdir()
    (path / "config.json").rename(path / "checkpoint-5" / "config.json")


BROKEN = {
    "no config": (lambda path: (path / "config.json").unlink(), "no config.json"),
    "the checkpoint lies deeper": (nested, "its folder checkpoint-5 has one"),
    "config is no JSON": (lambda path: (path / "config.json").write_text("{"), "cannot be read as JSON"),
    "config is deep": (lambda path: (path / "config.json").write_text("[" * 100_000), "cannot be read as JSON"),
    "config is a list": (lambda path: (path / "config.json").write_text("[]"), "no model_type"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "no weights"),
    "pickled": (pickled, "pickled .pytorch_model.bin."),
    "a missing shard": (shards, "1 of 2 weight files are missing: model-2.safetensors"),
    "a shard outside": (outside, "no weight_map of file names"),
    "cut off": (lambda path: write_weights(path / "model.safetensors", b"\0" * 5), "its header says"),
    "empty": (lambda path: (path / "model.safetensors").write_bytes(b""), "header cannot be read"),
    "a pointer": (
        lambda path: (path / "model.safetensors").write_text("version https://git-lfs\noid 1\n"),
        "Git LFS pointer",
    ),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "no tokenizer"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_refused(case, whole):
    change, message = BROKEN[case]
    change(whole)
    with pytest.raises(ModelError, match=message):
        check_model_directory(whole)


def test_an_adapter_needs_its_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter_model.safetensors"):
        check_model_directory(tmp_path)


def test_the_look_needs_no_torch():
    code = "import sys, alignflow.data.model_directory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
