"""The rule of `engine.precision: auto`: bf16 products where the chip multiplies them faster and the model is wide enough."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

from alignflow.data.configs.recipe import Recipe

WIDTH_FROM = 192
"""Width from which bf16 products pay on a CPU: casting costs as much as it saves below. Measured, docs/measurements/benchmarks.md."""
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
AMPERE = 8.0
"""First compute capability of NVIDIA's with bf16 products."""
WIDTH_NAMES = ("hidden_size", "n_embd", "d_model")


def auto_precision(device: str, width: int | None) -> str:
    """bf16 or fp32, a function of chip and model alone: never of a timing.

    Args:
        device: cpu or cuda.
        width: The model's hidden size; None where it is not known, which means fp32 on a CPU.
    """
    if device == "cuda":
        return "bf16" if cuda_has_bf16() else "fp32"
    return "bf16" if width is not None and width >= WIDTH_FROM and CPU_FLAGS & cpu_flags() else "fp32"


@cache
def cpu_flags() -> frozenset[str]:
    """What the CPU can do, by Linux's names; empty where the system does not say. psutil does not know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


@cache
def cuda_has_bf16() -> bool:
    """Whether every visible GPU multiplies bf16; assumed where the driver's own tool cannot be asked."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return all(float(capability) >= AMPERE for capability in found)
    except (OSError, ValueError, subprocess.SubprocessError):
        return True


def recipe_width(recipe: Recipe) -> int | None:
    """Width of the model that a recipe trains: built, local, or on the Hub; None where it cannot be known without loading."""
    if recipe.replace.sft:
        return model_width(recipe.replace.sft)
    if recipe.model.path is None:
        return recipe.model.build.hidden_size
    return model_width(recipe.model.path, recipe.model.revision)


def model_width(name: str, revision: str | None = None) -> int | None:
    """Hidden size in the config.json of a model directory or a Hub model; None where there is none that says it."""
    directory = Path(name)
    file = directory / "config.json" if directory.is_dir() else _hub_config(name, revision)
    try:
        config = json.loads(file.read_text()) if file else {}
    except (OSError, ValueError):
        return None
    config = {**config, **config.get("text_config", {})}
    return next((int(config[field]) for field in WIDTH_NAMES if isinstance(config.get(field), int)), None)


def _hub_config(name: str, revision: str | None) -> Path | None:
    """The config of a Hub model, fetched where it is not cached: the rule must not change with what was fetched before."""
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception:  # noqa: BLE001 (the Hub's client raises many kinds; the key of the model itself reports them)
        return None
