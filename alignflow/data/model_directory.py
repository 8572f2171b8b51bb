"""Looks at a model directory without torch, so that `plan` refuses one that cannot be loaded before anything starts."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from alignflow.data.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from alignflow.data.errors import ModelError
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library


def check_model_path(path: Path) -> None:
    """As `check_model_directory`, for a path that may also be a Hub id; raises ModelError for a file too."""
    if path.is_dir():
        check_model_directory(path)
    elif path.is_file():
        raise ModelError(
            "a file, and not the directory of a model", where=str(path), do=f"give its directory, {path.parent}"
        )


def check_model_directory(path: Path) -> None:
    """See that a directory has a config, whole files of weights and a tokenizer; weights are not read, only their headers.

    Raises:
        ModelError: says what is missing or cut off, and what to do.
    """
    if is_ensemble(path):
        for member in read_ensemble(path).members:
            check_model_directory(member)
        return
    if (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file():
        if not (path / ADAPTER_WEIGHTS).is_file():
            raise ModelError(
                f"the adapter has no {ADAPTER_WEIGHTS}", where=str(path), do="save it with peft's save_pretrained"
            )
        _check_file(path / ADAPTER_WEIGHTS)
        return
    if not (path / "config.json").is_file():
        raise ModelError(
            f"no model: it has no config.json{_instead(path)}",
            where=str(path),
            do="give a Hugging Face model directory",
        )
    _check_config(path / "config.json")
    for file in _weight_files(path):
        _check_file(file)
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelError(
            "the directory has no tokenizer", where=str(path), do="save the model's tokenizer beside its weights"
        )


def _instead(path: Path) -> str:
    """What the directory seems to be, for the message."""
    if list(path.glob("*.gguf")):
        return ", but GGUF files, which are for inference alone"
    if (path / "latest").is_file() and list(path.glob("global_step*")):
        return ", but a DeepSpeed checkpoint: convert it with DeepSpeed's zero_to_fp32.py"
    inside = sorted(child.parent.name for child in path.glob("*/config.json"))
    return f"; its folder {inside[0]} has one" if inside else ""


def _check_config(file: Path) -> None:
    config = _read_json(file)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(
            "config.json names no model_type", where=str(file), do="give the config.json that belongs to the weights"
        )


def _weight_files(path: Path) -> list[Path]:
    if (path / INDEX).is_file():
        index = _read_json(path / INDEX)
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, dict) or not all(
            isinstance(place, str) and Path(place).name == place for place in places.values()
        ):
            raise ModelError(
                "the index of the weights has no weight_map of file names",
                where=str(path / INDEX),
                do="save the model again",
            )
        missing = sorted({place for place in places.values() if not (path / place).is_file()})
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(set(places.values()))} weight files are missing: {', '.join(missing[:3])}",
                where=str(path),
                do="complete the download or the copy",
            )
        return sorted({path / place for place in places.values()})
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
    if pickled:
        raise ModelError(
            f"its weights are pickled ({pickled[0]}), and unpickling can run code",
            where=str(path),
            do="convert them once, where you trust them: load the model with transformers and save_pretrained",
        )
    raise ModelError(
        f"the directory has no weights: no {WEIGHTS} and no {INDEX}",
        where=str(path),
        do="give a directory with safetensors",
    )


def _check_file(file: Path) -> None:
    """Compare a safetensors file's length with what its header says: a copy that was cut off has the wrong one."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = opened.read(length) if 0 < length <= min(size, MOST_HEADER_BYTES) else b""
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        pointer = start.startswith(b"version ")  # the text that Git LFS leaves in place of a file
        what = (
            "a Git LFS pointer and not the file itself" if pointer else "no safetensors file: its header cannot be read"
        )
        raise ModelError(
            what, where=str(file), do="fetch the file itself (`git lfs pull`), or save the model again"
        ) from None
    if size != wanted:
        raise ModelError(
            f"it has {size:,} bytes, and its header says {wanted:,}",
            where=str(file),
            do="complete the download or the copy",
        )


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"it cannot be read as JSON ({type(error).__name__})", where=str(file), do="restore the file"
        ) from None
