"""A data set of the store in the layout of the Hub: Parquet files named as `datasets` names them, and a card that says which is what."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from alignflow.data.artifacts import Manifest, file_digest
from alignflow.data.dataset_cards import CARD, card_of, facts_of_card, tables_of
from alignflow.data.durable import sync
from alignflow.data.errors import DamagedArtifactError, DataError, UserError


def export_dataset(manifest: Manifest, payload: Path, out: Path) -> list[str]:
    """Write the tables of a data set and its card to `out`, which appears whole or not at all; returns what there is, a line a table.

    One table lies in `data/`, several lie in folders of their own, and each is a configuration of its own for `datasets.load_dataset`.
    The held-out side is the split `test`.

    Raises:
        UserError: `out` is a file, or a directory with something in it.
        DataError: there is no table with rows.
        DamagedArtifactError: bytes are not those of the manifest.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("it exists already and is not an empty directory", where=str(out), do="give another directory")
    tables = tables_of(payload)
    filled = [table for table in tables if table.rows]
    if not filled:
        raise DataError(
            "no table with rows in it", where=manifest.key, do="name a step that prepares, samples or labels"
        )
    one = len({table.name for table in filled}) == 1
    placed = [
        replace(table, path=f"{'data' if one else table.name}/{table.split}-00000-of-00001.parquet") for table in filled
    ]
    temporary = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for table, target in zip(filled, placed, strict=True):
            place = temporary / target.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(payload / table.path, place)
            if file_digest(place) != manifest.files.get(table.path):
                raise DamagedArtifactError(
                    f"{table.path} is not what its manifest says",
                    key=manifest.key,
                    where=manifest.key,
                    do="run `alignflow verify`",
                )
        for name in ("statistics.json",):
            if (payload / name).is_file():
                shutil.copyfile(payload / name, temporary / name)
        own = payload / CARD
        title, facts = facts_of_card(own.read_text(encoding="utf-8")) if own.is_file() else ("", {})
        facts = {**facts, "step": manifest.stage, "artifact": manifest.key}
        (temporary / CARD).write_text(
            card_of(placed, manifest.licences, title or f"Data of the step {manifest.stage}", facts), encoding="utf-8"
        )
        for file in (*temporary.rglob("*"), temporary):
            sync(file)
        os.rename(temporary, out)
        sync(out.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [f"{table.path}: {table.rows} rows" for table in placed]
