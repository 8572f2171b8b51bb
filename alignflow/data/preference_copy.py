"""A copy of one table of a labelled data set outside of the store, with what is known about it."""

from __future__ import annotations

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


def copy_table(manifest: Manifest, payload: Path, table: str, directory: Path) -> None:
    """Copy both sides of a table, the statistics and the manifest of a labelled data set; the directory is there when all of it is."""
    check_target(directory)
    staging = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(payload / table, staging)
    verify_whole(payload / table, staging)
    shutil.copy(payload / "statistics.json", staging)
    (staging / "manifest.json").write_text(manifest_text(manifest))
    if directory.is_dir():
        directory.rmdir()
    staging.rename(directory)
