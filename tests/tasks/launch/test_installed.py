import json
import subprocess
import sys

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
