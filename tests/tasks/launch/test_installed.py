import json
import subprocess
import sys

import pytest

from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.configs.lm_eval import LmEvalConfig
from alignflow.data.errors import UserError
from alignflow.data.vllm_environment import VARIABLE
from alignflow.tasks.launch import installed as module
from alignflow.tasks.launch.installed import ALWAYS, installed, package_version


def test_what_is_installed_has_a_version_and_what_is_not_has_none():
    assert package_version("torch") and package_version("no_such_package") is None


def test_everything_is_json_and_names_what_auto_takes(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    found = json.loads(json.dumps(installed()))
    assert all(found["packages"][name] for name in ALWAYS)
    assert found["generators"]["transformers"] and not found["generators"]["vllm"]
    assert found["auto"]["engine.generator"] == "transformers"
    assert any(line.startswith("vllm: the engine vllm (no environment): `make vllm`") for line in found["missing"])


def test_a_package_that_is_missing_is_told_with_what_it_is_for(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    monkeypatch.setattr(module, "package_version", lambda name: None if name == "peft" else "1")
    assert "peft: low-rank adapters: pip install 'alignflow[lora]'" in installed()["missing"]


def test_no_heavy_library_is_imported_for_it(tmp_path):
    code = """
import sys
from alignflow.tasks.launch.installed import installed
installed()
print([name for name in ("torch", "transformers", "prefect", "vllm") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/bin", VARIABLE: str(tmp_path)}
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_an_evaluator_whose_package_is_missing_is_refused_and_others_need_none(monkeypatch):
    config = EvaluateConfig(evaluators=("kl", "lm_eval"), lm_eval=LmEvalConfig(tasks=("arc_easy",)))
    monkeypatch.setattr(module, "is_installed", lambda name: False)
    with pytest.raises(UserError, match="needs lm_eval, which is not installed") as refused:
        module.check_packages(config)
    assert "pip install 'alignflow[lm-eval]'" in str(refused.value)
    module.check_packages(EvaluateConfig())
    monkeypatch.setattr(module, "is_installed", lambda name: True)
    module.check_packages(config)


def test_a_folder_with_the_name_of_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "wandb_files").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not module.is_installed("wandb_files") and module.is_installed("json")
