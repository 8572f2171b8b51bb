"""Loads models of transformers in fp32; under ZeRO 3 each process reads its own part alone, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig
from transformers.initialization import no_init_weights

from alignflow.data.run import Runtime
from alignflow.models.engines.partitioned import fill, shape_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_model(kind: Any, path: Path, runtime: Runtime, trainable: bool, **changes: Any) -> tuple[Any, list[str]]:
    """Load a checkpoint by an Auto class of transformers, in fp32.

    Args:
        kind: The Auto class.
        path: Directory with config and safetensors.
        runtime: A model to train under ZeRO 3 is shared out while it is read, so that no process ever holds it whole.
        trainable: Whether an engine will be made around it.
        changes: Fields of the config to change.

    Returns:
        The model, and the names of parameters that the checkpoint does not have.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    if trainable and runtime.engine == "deepspeed" and runtime.zero_stage == 3:
        if (found := _load_shared_out(kind, path, runtime, changes)) is not None:
            return found
        print("the checkpoint's tensors are not the model's own: every process loads it whole before it is shared out", flush=True)
    model, report = kind.from_pretrained(str(path), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **changes)
    return model, sorted(report["missing_keys"])


def _load_shared_out(kind: Any, path: Path, runtime: Runtime, changes: dict[str, Any]) -> tuple[Any, list[str]] | None:
    """As `load_model`; None where names or shapes on disk are others than in memory, which only transformers can convert."""
    from alignflow.models.engines.deepspeed_engine import partitioned_from_the_start

    config = AutoConfig.from_pretrained(str(path), **changes)
    files = tensor_files(path)
    with partitioned_from_the_start(runtime), no_init_weights():
        model = kind.from_config(config, dtype=torch.float32)
    model.tie_weights()
    parameters = dict(model.named_parameters())
    missing = sorted(parameters.keys() - files.keys())
    backbone = f"{model.base_model_prefix}."
    if any(name.startswith(backbone) for name in missing) or any(name in files for name, _ in model.named_buffers()):
        return None
    for file in sorted(set(files.values())):
        with safe_open(path / file, "pt") as tensors:
            for name in sorted(parameters.keys() & set(tensors.keys())):
                values = tensors.get_tensor(name)
                if values.shape != shape_of(parameters[name]):
                    return None
                fill(parameters[name], values.float())
    if (path / "generation_config.json").is_file() and model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(str(path))
    return model, missing


def tensor_files(path: Path) -> dict[str, str]:
    """Name of each tensor of a checkpoint -> the file that holds it; raises OSError where there are no safetensors."""
    if (path / INDEX).is_file():
        return json.loads((path / INDEX).read_text())["weight_map"]
    with safe_open(path / WEIGHTS, "pt") as tensors:
        return dict.fromkeys(tensors.keys(), WEIGHTS)
