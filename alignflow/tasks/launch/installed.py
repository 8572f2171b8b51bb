"""What this machine and its environments have, and what is missing for which feature. Imports no heavy library into this process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import subprocess
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

import alignflow
from alignflow.data.catalogue import EVALUATORS, GENERATORS
from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.errors import UserError
from alignflow.data.shared_parts import ENGINES
from alignflow.data.vllm_environment import BUILD, look_into, vllm_python
from alignflow.tasks.launch.precision import auto_precision, cpu_flags
from alignflow.tasks.launch.runtime import cores, gpus, has_cuda

PACKAGES = {
    "torch": "training and generation",
    "transformers": "models and tokenizers",
    "datasets": "reading data",
    "prefect": "runs",
    "deepspeed": "engine.training: deepspeed (auto takes plain torch without it)",
    "peft": "low-rank adapters: pip install 'alignflow[lora]'",
    "openai": "the engine server",
    "tenacity": "the engine server",
    "mlflow": "tracking.name: mlflow: pip install 'alignflow[mlflow]'",
    "wandb": "tracking.name: wandb: pip install 'alignflow[wandb]'",
    "lm_eval": "the evaluator lm_eval: pip install 'alignflow[lm-eval]'",
    "prefect_dask": "engine.task_runner: dask: pip install 'alignflow[dask]'",
}
"""Import name -> what does not work without it."""
ALWAYS = ("torch", "transformers", "datasets", "prefect")
_WIDE, _NARROW = 1024, 64  # hidden sizes above and below the threshold of `precision: auto`


def installed() -> dict[str, Any]:
    """Chip, precision, packages, engines and what is missing; JSON values."""
    packages = {name: package_version(name) for name in PACKAGES}
    vllm = _vllm()
    missing = [f"{name}: {PACKAGES[name]}" for name, version in packages.items() if version is None]
    if vllm["error"]:
        missing.append(f"vllm: the engine vllm ({vllm['error']}): {BUILD}")
    device = "cuda" if has_cuda() else "cpu"
    return {
        "alignflow": alignflow.__version__,
        "python": platform.python_version(),
        "chip": _chip(device),
        "precision": {"narrow models": auto_precision(device, _NARROW), "wide models": auto_precision(device, _WIDE)},
        "packages": packages,
        "vllm": vllm,
        "training": {name: name == "torch" or packages[name] is not None for name in ENGINES},
        "generators": {name: _works(name, packages, vllm) for name in GENERATORS},
        "auto": {
            "engine.training": "deepspeed" if packages["deepspeed"] else "torch",
            "engine.generator": "vllm" if device == "cuda" and vllm_python() else "transformers",
        },
        "missing": missing,
    }


def check_packages(config: BaseModel) -> None:
    """Raise UserError if a config names an evaluator whose package is not installed."""
    for name in config.evaluators if isinstance(config, EvaluateConfig) else ():
        package = EVALUATORS[name].package if name in EVALUATORS else ""
        if package and not is_installed(package):
            extra = package.replace("_", "-")
            raise UserError(
                f"the evaluator {name} needs {package}, which is not installed",
                where="evaluate.evaluators",
                do=f"pip install 'alignflow[{extra}]', or remove {name} from the recipe",
            )


def is_installed(name: str) -> bool:
    """Whether a package with this import name is installed; a plain folder, as trackers make, does not count."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def package_version(name: str) -> str | None:
    """The version of a package by its import name; None if it is not installed, "" if it has no version."""
    if not is_installed(name):
        return None
    try:
        return importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _works(name: str, packages: dict[str, str | None], vllm: dict[str, Any]) -> bool:
    needs: dict[str, Callable[[], bool]] = {
        "vllm": lambda: not vllm["error"],
        "server": lambda: packages["openai"] is not None and packages["tenacity"] is not None,
    }
    return needs.get(name, lambda: True)()


def _vllm() -> dict[str, Any]:
    python = vllm_python()
    if python is None:
        return {"python": None, "version": "", "torch": "", "chip": "", "error": "no environment"}
    found = look_into(python)
    return {
        "python": str(python),
        "version": found.vllm,
        "torch": found.torch,
        "chip": found.chip,
        "error": found.error,
    }


def _chip(device: str) -> dict[str, Any]:
    flags = cpu_flags()
    return {
        "device": device,
        "gpus": [line for line in _gpu_names() if line] if device == "cuda" else [],
        "gpus_visible": gpus(),
        "cores": cores(),
        "machine": platform.machine(),
        "bf16": sorted(flag for flag in flags if "bf16" in flag),
    }


def _gpu_names() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
