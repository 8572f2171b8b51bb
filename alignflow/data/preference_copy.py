"""A copy of one table of a labelled data set outside of the store, with what is known about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from alignflow.data.artifacts import Manifest, manifest_text, verify_whole
from alignflow.data.errors import UserError


def check_target(directory: Path) -> Path:
    """The directory, if it can take a copy; raises UserError where something is there already."""
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise UserError(
            "something is there already",
            where=str(directory),
            do="name a directory that does not exist, or an empty one",
        )
    return directory


def copy_table(manifest: Manifest, payload: Path, table: str, directory: Path, jsonl: bool = False) -> None:
    """Copy both sides of a table, the statistics and the manifest of a labelled data set; the directory is there when all of it is.

    With `jsonl` the rows are written as JSON lines instead of Parquet: the same columns, a line a row.
    """
    check_target(directory)
    staging = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(payload / table, staging)
    verify_whole(payload / table, staging)
    for file in staging.glob("*.parquet") if jsonl else ():
        _write_lines(file, file.with_suffix(".jsonl"))
        file.unlink()
    shutil.copy(payload / "statistics.json", staging)
    (staging / "manifest.json").write_text(manifest_text(manifest))
    if directory.is_dir():
        directory.rmdir()
    staging.rename(directory)


def _write_lines(table: Path, target: Path) -> None:
    import pyarrow.parquet as pq

    with open(target, "w", encoding="utf-8") as file:
        for batch in pq.ParquetFile(table).iter_batches():
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
