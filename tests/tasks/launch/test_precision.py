"""Precision is a fixed rule over chip and model, known before anything loads."""

import json
import subprocess
import sys

import pytest

from alignflow.data.configs.recipe import EngineConfig, Recipe
from alignflow.tasks.launch import precision
from alignflow.tasks.launch.precision import auto_precision, model_width, recipe_width
from alignflow.tasks.launch.runtime import resolve_runtime


@pytest.fixture
def chip(monkeypatch):
    """Give the CPU some flags."""
    return lambda *flags: monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))


@pytest.mark.parametrize(
    ("flags", "width", "wanted"),
    [
        (("avx2",), 4096, "fp32"),
        (("avx2", "avx512_bf16"), 192, "bf16"),
        (("amx_bf16",), 576, "bf16"),
        (("avx512_bf16",), 191, "fp32"),
        (("avx512_bf16",), None, "fp32"),
        ((), 1024, "fp32"),
    ],
)
def test_a_cpu_needs_bf16_products_and_a_wide_model(chip, flags, width, wanted):
    chip(*flags)
    assert auto_precision("cpu", width) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"), [("8.0\n9.0\n", "bf16"), ("7.5\n", "fp32"), ("8.6\n7.0\n", "fp32"), ("n/a", "bf16")]
)
def test_a_gpu_is_asked_for_its_compute_capability(monkeypatch, answer, wanted):
    precision.cuda_has_bf16.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=answer))
    assert auto_precision("cuda", None) == wanted
    precision.cuda_has_bf16.cache_clear()


def test_what_the_recipe_says_is_not_decided_anew(chip):
    chip("avx512_bf16")
    assert resolve_runtime(EngineConfig(device="cpu", precision="fp32"), 4096).precision == "fp32"
    assert resolve_runtime(EngineConfig(device="cpu", precision="bf16"), 16).precision == "bf16"
    assert resolve_runtime(EngineConfig(device="cpu"), 4096).precision == "bf16"


def test_a_micro_batch_is_as_large_as_its_chip_likes():
    assert resolve_runtime(EngineConfig(device="cpu")).micro_batch_tokens == 2048
    assert resolve_runtime(EngineConfig(device="cpu", micro_batch_tokens=512)).micro_batch_tokens == 512


@pytest.mark.parametrize(
    "fields", [{"hidden_size": 48}, {"n_embd": 48}, {"d_model": 48}, {"text_config": {"hidden_size": 48}}]
)
def test_the_width_is_read_from_the_models_config(tmp_path, fields):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert model_width(str(tmp_path)) == 48
    assert recipe_width(Recipe.model_validate({"model": {"path": str(tmp_path)}})) == 48
    assert recipe_width(Recipe.model_validate({"replace": {"sft": str(tmp_path)}})) == 48


def test_a_built_model_has_the_width_that_the_recipe_says():
    assert recipe_width(Recipe.model_validate({"model": {"build": {"hidden_size": 64}}})) == 64


@pytest.mark.parametrize("content", ["", "{}", "no json", None])
def test_a_width_that_nobody_says_is_not_guessed(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert model_width(str(tmp_path)) is None
    assert model_width("./not/there") is None


def test_a_hub_models_config_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"hidden_size": 576}')
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(tmp_path / "config.json")
    )
    assert model_width("owner/name", "abc") == 576 and asked == [(("owner/name", "config.json"), {"revision": "abc"})]


def test_the_rule_needs_no_torch():
    code = (
        "import sys; from alignflow.tasks.launch.runtime import resolve_runtime; from alignflow.data.configs.recipe import EngineConfig; "
        "resolve_runtime(EngineConfig(device='cpu'), 4096); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
