"""Writes a model as a Hugging Face directory: weights, tokenizer, generation config and a card; equal models, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import artifact_of, read_manifest
from alignflow.models import attention

CARD = "README.md"


def save_checkpoint(model: Any, tokenizer: Any, out: Path, card: Mapping[str, str]) -> None:
    """Write `model` (safetensors, fp32), its tokenizer and a card to the directory `out`.

    Args:
        model: A model of transformers.
        tokenizer: Its tokenizer, with the chat template.
        out: An existing directory.
        card: What the card says, line by line: title first, then name -> text. No times and no paths.
    """
    if getattr(model, "generation_config", None) is not None:
        settings = model.generation_config
        settings.eos_token_id = _with_eos(settings.eos_token_id, tokenizer.eos_token_id)
        settings.pad_token_id = tokenizer.pad_token_id
    attention.uninstall(model)
    model.config._name_or_path = ""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _forget_places(out)
    (out / CARD).write_text(card_text(card))


def _with_eos(known: Any, eos: int) -> Any:
    ids = list(known) if isinstance(known, list | tuple) else [known] if known is not None else []
    return ids if eos in ids and len(ids) > 1 else eos if not ids or ids == [eos] else sorted({*ids, eos})


def _forget_places(out: Path) -> None:
    """Take local paths out of the JSON files that transformers wrote, so that the digest does not depend on them."""
    for name in ("config.json", "tokenizer_config.json"):
        path = out / name
        content = json.loads(path.read_text())
        for key in ("_name_or_path", "name_or_path", "_commit_hash", "is_local", "local_files_only"):
            content.pop(key, None)
        path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def card_text(card: Mapping[str, str]) -> str:
    """A short model card in Markdown."""
    title, *_ = card
    lines = [f"# {title}", "", card[title], ""]
    lines += [f"- {name}: {text}" for name, text in card.items() if name != title]
    return "\n".join(lines) + "\n"


def licences_of(*inputs: Path | None) -> str:
    """The licences recorded for what went into a stage; `unknown` where nothing is."""
    found: dict[str, str] = {}
    for path in inputs:
        artifact = artifact_of(path) if path else None
        if artifact:
            found.update(read_manifest(artifact).licences)
    return "; ".join(f"{name}: {licence}" for name, licence in sorted(found.items())) or "unknown"
