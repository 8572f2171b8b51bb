"""The rule of `engine.precision: auto`: bf16 if the chip multiplies it faster and the model is wide enough."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

from alignflow.data.configs.recipe import Recipe

WIDTH_FROM = 192
"""Width from which bf16 pays off on a CPU; below, casting costs as much as it saves. Measured in docs/measurements/benchmarks.md."""
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
AMPERE = 8.0
"""NVIDIA's first compute capability with bf16 multiplication."""
WIDTH_NAMES = ("hidden_size", "n_embd", "d_model")


def auto_precision(device: str, width: int | None) -> str:
    """bf16 or fp32, a function of chip and model only, never of a timing.

    Args:
        device: cpu or cuda.
        width: The model's hidden size; None if unknown, which means fp32 on a CPU.
    """
    if device == "cuda":
        return "bf16" if cuda_has_bf16() else "fp32"
    return "bf16" if width is not None and width >= WIDTH_FROM and CPU_FLAGS & cpu_flags() else "fp32"


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's features by Linux's names; empty if unknown. psutil does not have them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


@cache
def cuda_has_bf16() -> bool:
    """Whether every visible GPU multiplies bf16; assumed if the driver's tool does not answer."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return all(float(capability) >= AMPERE for capability in found)
    except (OSError, ValueError, subprocess.SubprocessError):
        return True


def recipe_width(recipe: Recipe) -> int | None:
    """Width of the model that a recipe trains: built, local, or on the Hub; None if it cannot be known without loading."""
    if recipe.replace.sft:
        return model_width(recipe.replace.sft)
    if recipe.model.path is None:
        return recipe.model.build.hidden_size
    return model_width(recipe.model.path, recipe.model.revision)


def model_width(name: str, revision: str | None = None) -> int | None:
    """Hidden size in the config.json of a model directory or a Hub model; None if it is not there."""
    directory = Path(name)
    file = directory / "config.json" if directory.is_dir() else _hub_config(name, revision)
    try:
        config = json.loads(file.read_text()) if file else {}
    except (OSError, ValueError):
        return None
    config = {**config, **config.get("text_config", {})}
    return next((int(config[field]) for field in WIDTH_NAMES if isinstance(config.get(field), int)), None)


def _hub_config(name: str, revision: str | None) -> Path | None:
    """The config of a Hub model, fetched if it is not cached: the rule must not depend on earlier downloads."""
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception:  # noqa: BLE001 (the Hub's client raises many kinds; the key of the model itself reports them)
        return None
