import json

from typer.testing import CliRunner

from alignflow.cli import env
from alignflow.cli.app import app
from alignflow.tasks.launch.installed import PACKAGES

FOUND = {
    "alignflow": "0.1.0",
    "python": "3.11.7",
    "chip": {"device": "cpu", "gpus": [], "gpus_visible": 0, "cores": 2, "machine": "x86_64", "bf16": []},
    "precision": {"narrow models": "fp32", "wide models": "fp32"},
    "packages": {**dict.fromkeys(PACKAGES, "1.2"), "peft": None},
    "vllm": {"python": "/venv/bin/python", "version": "", "torch": "", "chip": "", "error": "RuntimeError: [broken]"},
    "training": {"torch": True, "deepspeed": True},
    "generators": {"transformers": True, "vllm": False},
    "auto": {"engine.training": "deepspeed", "engine.generator": "transformers"},
    "missing": ["peft: low-rank adapters"],
}


def call(monkeypatch, found, *arguments):
    monkeypatch.setattr(env, "installed", lambda: found)
    return CliRunner().invoke(app, ["env", *arguments], env={"COLUMNS": "160"})


def test_the_table_says_what_works_and_what_is_missing(monkeypatch):
    done = call(monkeypatch, FOUND)
    assert done.exit_code == 0
    for text in (
        "CPU, x86_64, 2 cores, without bf16",
        "RuntimeError: [broken] in /venv/bin/python",
        "transformers, vllm (no)",
    ):
        assert text in done.stdout
    assert "missing  peft: low-rank adapters" in done.stdout


def test_json_is_everything(monkeypatch):
    assert json.loads(call(monkeypatch, FOUND, "--json").stdout) == FOUND


def test_without_what_every_run_needs_the_status_is_1(monkeypatch):
    assert call(monkeypatch, {**FOUND, "packages": {**FOUND["packages"], "torch": None}}).exit_code == 1
