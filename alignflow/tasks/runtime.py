"""Where a stage computes: a fixed rule over chip, installed packages and recipe, never a timing. Asks no torch."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from alignflow.data.catalogue import Stage
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import UserError
from alignflow.data.run import Runtime
from alignflow.tasks.precision import auto_precision

MOST_THREADS = 8
MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}  # measured on a CPU: docs/benchmarks.md


def has_cuda() -> bool:
    """Whether this process may use an NVIDIA GPU: the driver's device is there and CUDA_VISIBLE_DEVICES hides not all."""
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def resolve_runtime(engine: EngineConfig, width: int | None = None) -> Runtime:
    """Turn every `auto` into a value; raises UserError for CUDA on a machine without it.

    Args:
        engine: The recipe's engine.
        width: Hidden size of the model that is trained, where it is known: it decides `precision`.
    """
    if engine.device == "cuda" and not has_cuda():
        raise UserError("device cuda, but no NVIDIA GPU is visible", where="engine.device", do="set it to auto or cpu")
    device = engine.device if engine.device != "auto" else ("cuda" if has_cuda() else "cpu")
    precision = engine.precision if engine.precision != "auto" else auto_precision(device, width)
    installed = importlib.util.find_spec("deepspeed") is not None
    training = engine.training if engine.training != "auto" else ("deepspeed" if installed else "torch")
    return Runtime(
        device=device, precision=precision, engine=training,
        generator="transformers" if engine.generator == "auto" else engine.generator,
        threads=engine.threads or min(cores(), MOST_THREADS),
        micro_batch_tokens=engine.micro_batch_tokens or MICRO_BATCH_TOKENS[device], zero_stage=engine.zero_stage,
    )  # fmt: skip


def key_components(stage: Stage, runtime: Runtime) -> dict[str, str]:
    """The part of a runtime that changes results by more than rounding, for the stages that it matters to."""
    components: dict[str, str] = {}
    if stage.trains:
        components["resolved.engine"] = runtime.engine
    if stage.generates:
        components["resolved.generator"] = runtime.generator
    if components:
        components["resolved.precision"] = runtime.precision
    return components
