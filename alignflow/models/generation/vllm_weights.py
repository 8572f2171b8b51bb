"""What vLLM loads for a path: the model itself, its base with a LoRA adapter, or a merged copy; and live weights as a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

from alignflow.data.adapters import ADAPTER_CONFIG, find_base, is_adapter
from alignflow.data.artifacts import identity, text_digest, verify_files
from alignflow.data.errors import ModelError
from alignflow.models.adapters import from_pretrained
from alignflow.models.engines.partitioned import gathered, is_partitioned

PROJECTIONS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
"""Modules for which every decoder of vLLM supports adapters."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM accepts as largest rank."""
NEEDED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class Loaded:
    """What a process of vLLM loads.

    Attributes:
        directory: Directory of a whole model; for a merged copy that of the adapter, and `merged` is set.
        digest: Identifies the weights.
        adapter: Digest and path of a LoRA adapter; None if there is none.
        rank: The largest rank that vLLM must support; 0 without an adapter.
        merged: Whether a copy has to be merged first: vLLM cannot run this adapter on its base.
    """

    directory: Path
    digest: str
    adapter: tuple[str, str] | None = None
    rank: int = 0
    merged: bool = False


def what_to_load(path: Path | str) -> Loaded:
    """What to load for a path, after its weights and those of its base are verified.

    Raises:
        DamagedArtifactError: bytes are not those of a manifest.
        ModelError: an adapter's base is missing, or a Hub model does not exist.
    """
    path = local(path)
    verify_files(path)
    if not is_adapter(path):
        return Loaded(path, identity(path)[1])
    base = local(find_base(path))
    verify_files(base)
    digest, own = chain_digest(base), identity(path)[1]
    if (rank := lora_rank(path, base)) == 0:
        return Loaded(path, text_digest(f"{digest} {own} merged"), merged=True)
    return Loaded(base, digest, (own, str(path.absolute())), rank)


def chain_digest(path: Path) -> str:
    """The digest of a model, or of an adapter with its bases."""
    own = identity(path)[1]
    return text_digest(f"{chain_digest(local(find_base(path)))} {own}") if is_adapter(path) else own


def local(path: Path | str) -> Path:
    """The directory of a model: for a Hub id it is in the Hub's cache, fetched if necessary; raises ModelError if there is none."""
    if Path(path).is_dir():
        return Path(path)
    try:
        return Path(snapshot_download(str(path), allow_patterns=list(NEEDED)))
    except Exception as error:  # noqa: BLE001 (the Hub's client raises many kinds)
        raise ModelError(
            f"no model: {str(error).splitlines()[0][:300]}",
            where=str(path),
            do="use a directory with config.json and safetensors weights, or a Hub id",
        ) from None


def root_of(path: Path) -> Path:
    """The whole model under an adapter, or under a chain of adapters."""
    while is_adapter(path):
        path = local(find_base(path))
    return path


def lora_rank(path: Path, base: Path) -> int:
    """The smallest of RANKS that an adapter fits, or 0 if vLLM cannot run it on its base."""
    settings = json.loads((path / ADAPTER_CONFIG).read_text())
    modules = settings.get("target_modules")
    plain = (
        settings.get("peft_type") == "LORA"
        and isinstance(modules, list)
        and PROJECTIONS.issuperset(modules)
        and settings.get("bias", "none") == "none"
        and not any(
            settings.get(name)
            for name in ("modules_to_save", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform")
        )
        and not is_adapter(base)
    )
    return next((rank for rank in RANKS if rank >= settings.get("r", 8)), 0) if plain else 0


def merged_copy(path: Path, out: Path) -> Path:
    """Write the model at `path`, its adapters merged, to a new directory `out`, without a tokenizer: vLLM gets ids."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(mode=0o700)
    from_pretrained(AutoModelForCausalLM, path, torch.float32).save_pretrained(out)
    return out


@torch.no_grad()
def write_live(model: Any, file: Path, dtype: torch.dtype) -> None:
    """Write the weights of a model in training in the form of a checkpoint: no tied copy, adapters merged, in `dtype`.

    A partitioned model (ZeRO 3) is gathered one matrix at a time; every process must call this.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name or "lora_magnitude" in name:
            continue
        layer = None
        if name.endswith(".base_layer.weight"):
            layer = model.get_submodule(name.removesuffix(".base_layer.weight"))
        plain = name.replace(".base_layer.", ".").removeprefix("base_model.model.")
        with gathered([parameter] if layer is None else list(layer.parameters())):
            values = parameter
            if layer is not None:
                values = values + sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
            # A copy if the parameter's memory is released afterwards.
            tensors[plain] = values.detach().to("cpu", dtype, copy=is_partitioned(parameter))
    tensors = revert_weight_conversion(model, tensors)
    save_file({name: values.contiguous() for name, values in tensors.items()}, file, metadata={"format": "pt"})
    file.chmod(0o600)


def copier(path: Path, out: Path) -> Callable[[], Path]:
    """Makes the merged copy when it is needed."""
    return lambda: merged_copy(path, out)
