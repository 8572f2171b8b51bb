"""Writes a model as a Hugging Face directory: weights, tokenizer, generation config and a card; equal models, equal bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.core_model_loading import revert_weight_conversion

from alignflow.data.artifacts import artifact_of, checked_manifest
from alignflow.data.printable import printable
from alignflow.data.template_turns import end_tokens
from alignflow.models import attention
from alignflow.models.engines import group
from alignflow.models.engines.partitioned import gathered, is_partitioned, shape_of
from alignflow.models.frozen_weights import FrozenLinear

CARD = "README.md"
SHARD_BYTES = 5 * 10**9  # size of a file of weights; a smaller model is one file


def save_checkpoint(model: Any, tokenizer: Any, out: Path, card: Mapping[str, str]) -> None:
    """Write `model` (safetensors, in its dtype), its tokenizer and a card to the directory `out`; every process must call it.

    The first process writes. Of a partitioned model (ZeRO 3) it holds one file's tensors at a time.

    Args:
        model: A model of transformers.
        tokenizer: Its tokenizer, with the chat template.
        out: An existing directory.
        card: What the card says, line by line: title first, then name -> text. No times and no paths.
    """
    assert not any(isinstance(module, FrozenLinear) for module in model.modules()), "a model in bf16 is never saved"
    if getattr(model, "generation_config", None) is not None:
        settings = model.generation_config
        for token in (tokenizer.eos_token_id, *end_tokens(tokenizer)):
            settings.eos_token_id = _with_eos(settings.eos_token_id, token)
        settings.pad_token_id = tokenizer.pad_token_id
    attention.uninstall(model)
    model.config._name_or_path = ""
    if any(is_partitioned(parameter) for parameter in model.parameters()):
        _save_shared_out(model, out)
    elif group.is_main():
        model.save_pretrained(out, max_shard_size=SHARD_BYTES)
    if group.is_main():
        _forget_places(out / "config.json")
        save_tokenizer(tokenizer, out)
        write_card(card, out)
    group.barrier()


def save_tokenizer(tokenizer: Any, out: Path) -> None:
    """Write a tokenizer with its chat template."""
    tokenizer.save_pretrained(out)
    _forget_places(out / "tokenizer_config.json")


def write_card(card: Mapping[str, str], out: Path) -> None:
    """Write the card next to a model."""
    (out / CARD).write_text(card_text(card))


def _save_shared_out(model: Any, out: Path) -> None:
    """Write what `save_pretrained` writes, and gather one parameter at a time."""
    tensors = dict(model.named_parameters()) | _kept_buffers(model)
    if not _stored_as_named(model, tensors):  # parameters that transformers stores under other names or in pieces
        whole = dict(_gathered_tensors(tensors, list(tensors)))
        if group.is_main():
            model.save_pretrained(out, state_dict=whole, max_shard_size=SHARD_BYTES)
        return
    if group.is_main():
        model.config.dtype, model.config.architectures = "float32", [type(model).__name__]
        model.config.save_pretrained(out)
        if model.can_generate():
            model.generation_config.save_pretrained(out)
    shards = plan_shards(
        {name: shape_of(tensor).numel() * tensor.element_size() for name, tensor in tensors.items()}, SHARD_BYTES
    )
    for file, names in shards.items():
        content = dict(_gathered_tensors(tensors, names))
        if group.is_main():
            save_file(content, out / file, metadata={"format": "pt"})
        del content
    if len(shards) > 1 and group.is_main():
        total = sum(shape_of(tensor).numel() * tensor.element_size() for tensor in tensors.values())
        places = {name: file for file, names in shards.items() for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def plan_shards(sizes: Mapping[str, int], limit: int) -> dict[str, list[str]]:
    """Names of tensors for each file, in their order: no file over `limit` bytes unless a single tensor is larger; one file if all fit."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{number:05d}-of-{len(shards):05d}.safetensors": names for number, names in enumerate(shards, 1)}


def _gathered_tensors(tensors: Mapping[str, Any], names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole tensors on the CPU, one after the other, in the first process; the others take part and get nothing."""
    for name in names:
        with gathered([tensors[name]]):
            if group.is_main():
                yield name, tensors[name].detach().cpu().clone().contiguous()


def _kept_buffers(model: Any) -> dict[str, torch.Tensor]:
    """Buffers that belong to the state."""
    names = {name for name, _ in model.named_buffers()} & model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in names}


def _stored_as_named(model: Any, tensors: Mapping[str, Any]) -> bool:
    """Whether transformers stores this architecture's parameters one by one under their own names."""
    placeholders = {name: torch.empty(shape_of(tensor), device="meta") for name, tensor in tensors.items()}
    try:
        return revert_weight_conversion(model, dict(placeholders)).keys() == placeholders.keys()
    except (RuntimeError, NotImplementedError, KeyError):  # a conversion that needs values
        return False


def _with_eos(known: Any, eos: int) -> Any:
    ids = list(known) if isinstance(known, list | tuple) else [known] if known is not None else []
    return ids if eos in ids and len(ids) > 1 else eos if not ids or ids == [eos] else sorted({*ids, eos})


def _forget_places(path: Path) -> None:
    """Remove local paths from a JSON file that transformers wrote, so that the digest does not depend on them."""
    content = json.loads(path.read_text())
    for key in ("_name_or_path", "name_or_path", "_commit_hash", "is_local", "local_files_only"):
        content.pop(key, None)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def card_text(card: Mapping[str, str]) -> str:
    """A short model card in Markdown."""
    title, *_ = card
    lines = [f"# {title}", "", card[title], ""]
    lines += [f"- {_plain(name)}: {_plain(text)}" for name, text in card.items() if name != title]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text of a recipe as one line of Markdown, escaped so that it becomes no HTML, link, image or code. Most texts do not change."""
    return re.sub(r"([\\`<>\[\]&])", r"\\\1", " ".join(printable(text).split()))


def licences_of(*inputs: Path | None) -> str:
    """The licences recorded for a stage's inputs; `unknown` if none is recorded."""
    found: dict[str, str] = {}
    for path in inputs:
        artifact = artifact_of(path) if path else None
        if artifact:
            found.update(checked_manifest(artifact).licences)
    return "; ".join(f"{name}: {licence}" for name, licence in sorted(found.items())) or "unknown"
