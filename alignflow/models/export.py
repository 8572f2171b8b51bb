"""Writes a model as a Hugging Face directory that needs no other files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from alignflow.data.adapters import is_adapter, verify_model
from alignflow.data.artifacts import verify_whole
from alignflow.data.dataset_cards import CARD
from alignflow.data.durable import sync
from alignflow.data.errors import UserError
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble, write_ensemble


def export(path: Path, out: Path, card: str = "", dtype: Literal["fp32", "bf16"] | None = None) -> None:
    """Copy the model at `path` to `out`; an adapter is merged into its base, and an ensemble's members are copied into it. `out`
    appears complete or not at all. A copy that is not merged and keeps its dtype needs no torch, which takes seconds to import.

    Args:
        path: Directory of a model, an adapter or an ensemble of reward models.
        out: A directory that is empty or does not exist.
        card: Replaces the model's own card; empty: the model keeps its card.
        dtype: dtype of the weights; None: as they are stored.

    Raises:
        UserError: `out` is a file, or a directory that is not empty.
        ModelError: an adapter's base is missing or changed.
        DamagedArtifactError: bytes are not those of their manifest.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("it exists already and is not an empty directory", where=str(out), do="pass another directory")
    temporary = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(path, temporary)
        if dtype is not None:
            from alignflow.models.stored_dtype import convert

            for place in [temporary, *sorted(temporary.glob("member.*"))]:
                convert(place, dtype)
        if card:
            (temporary / CARD).write_text(card, encoding="utf-8")
        for file in (*temporary.rglob("*"), temporary):
            sync(file)
        os.rename(temporary, out)
        sync(out.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, out: Path) -> None:
    if is_ensemble(path):
        verify_model(path)
        _write_members(path, out)
    elif is_adapter(path):
        verify_model(path)
        from alignflow.models.merged_copy import write_merged

        out.mkdir()
        write_merged(path, out)
    else:
        shutil.copytree(path, out)
        verify_whole(path, out)  # check the copy, since that is what is published


def _write_members(path: Path, out: Path) -> None:
    """An ensemble with its members in the same directory, as `member.1` and so on."""
    ensemble = read_ensemble(path)
    out.mkdir()
    places = [out / f"member.{number}" for number in range(1, len(ensemble.members) + 1)]
    for member, place in zip(ensemble.members, places, strict=True):
        _write(member, place)
    write_ensemble(out, places, ensemble.aggregate, ensemble.uncertainty_weight)
