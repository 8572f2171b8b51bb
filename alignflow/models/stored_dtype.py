"""Converts the weights of a stored model to another dtype, file by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alignflow.data.run import Runtime, write_json
from alignflow.models.loading import INDEX
from alignflow.models.reward_model import CHECK_ROWS, ScoredRow, load_reward_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAMES = {"fp32": "float32", "bf16": "bfloat16"}
"""Names of the dtypes as config.json has them."""


def convert(directory: Path, dtype: Literal["fp32", "bf16"]) -> None:
    """Convert all floating-point tensors of the model in `directory`, in place; does nothing if there are no weights.

    One file is in memory at a time. The check rows of a reward model get the scores of the converted weights.
    """
    files = sorted(directory.glob("*.safetensors"))
    for file in files:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        tensors = {name: _converted(value, DTYPES[dtype]) for name, value in load_file(file).items()}
        save_file(tensors, file, metadata=metadata)
    if not files:
        return
    config = json.loads((directory / "config.json").read_text())
    config.pop("torch_dtype", None)  # the name in earlier versions of transformers
    write_json(directory / "config.json", {**config, "dtype": NAMES[dtype]})
    if (directory / INDEX).is_file():
        index = json.loads((directory / INDEX).read_text())
        index["metadata"]["total_size"] = sum(_bytes(file) for file in files)
        write_json(directory / INDEX, index)
    if (directory / CHECK_ROWS).is_file():
        _score_again(directory)


def _converted(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _bytes(file: Path) -> int:
    with safe_open(file, "pt") as opened:
        return sum(opened.get_tensor(name).nbytes for name in opened.keys())  # noqa: SIM118 (no mapping)


def _score_again(directory: Path) -> None:
    checks: list[dict[str, Any]] = json.loads((directory / CHECK_ROWS).read_text())
    (directory / CHECK_ROWS).unlink()  # they belong to the old weights
    rows: list[ScoredRow] = [(check["messages"], check["completion"], check["ended"]) for check in checks]
    scores = load_reward_model(directory, Runtime()).score(rows)
    write_json(directory / CHECK_ROWS, [{**check, "score": score} for check, score in zip(checks, scores, strict=True)])
